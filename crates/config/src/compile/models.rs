//! `models` of a channel: names, patterns, aliases.

use std::collections::HashMap;

use crate::context::Context;
use crate::form::{ModelEntry, ModelsForm, Pairs};
use crate::snapshot::ModelRule;
use crate::tree::Place;

/// The rules in the order written.
pub(super) fn compile(place: &Place<'_>, form: Option<ModelsForm>, context: &mut Context<'_>) -> Box<[ModelRule]> {
    let mut rules = Vec::new();
    match form {
        None => {}
        Some(ModelsForm::Aliases(aliases)) => add_aliases(place, aliases, &mut rules, context),
        Some(ModelsForm::List(entries)) => {
            for (index, entry) in entries.into_iter().enumerate() {
                let place = place.index(index);
                match entry {
                    ModelEntry::Name(name) => rules.extend(name_rule(&place, name, context)),
                    ModelEntry::Aliases(aliases) => add_aliases(&place, aliases, &mut rules, context),
                }
            }
        }
    }
    check_aliases(place, &rules, context);
    rules.into()
}

fn name_rule(place: &Place<'_>, name: String, context: &mut Context<'_>) -> Option<ModelRule> {
    if name.trim().is_empty() {
        context.problems.error(place, "a model name is not empty; `*` stands for all");
        return None;
    }
    Some(if name.contains('*') { ModelRule::Glob(name.into()) } else { ModelRule::Exact(name.into()) })
}

fn add_aliases(place: &Place<'_>, aliases: Pairs<String>, rules: &mut Vec<ModelRule>, context: &mut Context<'_>) {
    for (alias, real) in aliases.0 {
        let place = place.key(&alias);
        if *alias == *real {
            rules.extend(name_rule(&place, real, context));
        } else if alias.contains('*') || real.contains('*') {
            context.problems.error(&place, "an alias and its real name are whole names, without `*`");
        } else if alias.trim().is_empty() || real.trim().is_empty() {
            context.problems.error(&place, "an alias and its real name are not empty");
        } else {
            rules.push(ModelRule::Alias { alias, real: real.into() });
        }
    }
}

/// An alias is followed once, so a circle would not hang; but whoever writes one does not get what they expect.
fn check_aliases(place: &Place<'_>, rules: &[ModelRule], context: &mut Context<'_>) {
    let mut real_by_alias: HashMap<&str, &str> = HashMap::new();
    for rule in rules {
        let ModelRule::Alias { alias, real } = rule else {
            continue;
        };
        if real_by_alias.insert(alias, real).is_some() {
            context.problems.error(place, format!("the alias `{alias}` is written twice"));
        }
    }
    for rule in rules {
        let ModelRule::Alias { alias, real } = rule else {
            continue;
        };
        let mut name: &str = real;
        for _ in 0..real_by_alias.len() {
            if *name == **alias {
                context
                    .problems
                    .error(&place.key(alias), format!("the aliases go in a circle: `{alias}` leads to itself"));
                return;
            }
            match real_by_alias.get(name) {
                Some(next) => name = next,
                None => break,
            }
        }
    }
}
