//! `departments`: what the users of one department share. They belong to it by its exact name.

use std::collections::HashMap;

use super::checks::check_id;
use super::limits;
use crate::context::Context;
use crate::form::DepartmentForm;
use crate::read::read_checked;
use crate::snapshot::{Scope, User};
use crate::suggest::suggestion;
use crate::tree::{Mark, Node, Place};

/// All departments by name.
pub(super) struct Departments {
    by_name: HashMap<Box<str>, Department>,
}

struct Department {
    mark: Mark,
    limited: Option<u32>,
    is_used: bool,
}

/// Compiles the section.
pub(super) fn compile(section: Node, context: &mut Context<'_>) -> Departments {
    let section_place = Place::section("departments", section.mark, None);
    let mut by_name = HashMap::new();
    for mut entry in section.into_entries() {
        let form = read_checked::<DepartmentForm>(&section_place, &mut entry, "Department", &mut context.problems);
        let place = section_place.entry(&entry).at(entry.key_mark);
        check_id(&place, &entry.key, &mut context.problems);
        let limited =
            form.and_then(|form| limits::add(&place, Scope::Department, &entry.key, form.limits, form.quotas, context));
        by_name.insert(Box::from(&*entry.key), Department { mark: entry.key_mark, limited, is_used: false });
    }
    Departments { by_name }
}

impl Departments {
    /// What the users of the department share; notes that there is one.
    pub(super) fn limited(&mut self, name: &str) -> Option<u32> {
        let department = self.by_name.get_mut(name)?;
        department.is_used = true;
        department.limited
    }

    /// Warns of departments without users: most likely the name is written in another way there.
    pub(super) fn warn_unused(&self, users: &[User], context: &mut Context<'_>) {
        // With errors about, some users may have been left out.
        if users.is_empty() || context.problems.errors() > 0 {
            return;
        }
        let mut named: Vec<&str> = users.iter().map(|user| &*user.department).filter(|name| !name.is_empty()).collect();
        named.sort_unstable();
        named.dedup();
        for (name, department) in self.by_name.iter().filter(|(_, department)| !department.is_used) {
            let suggestion = suggestion(name, named.iter().copied(), "users have");
            let place = Place::section("departments", department.mark, None);
            let message = format!("no user has this `department`{suggestion}");
            context.problems.warning(&place.key(name), message);
        }
    }
}
