//! `system.database`: which kind of database is where. Messages never repeat the URL, which holds a password.

use std::path::Path;

use aiproxy_core::Secret;

use crate::context::Context;
use crate::snapshot::{Database, DatabaseKind};
use crate::tree::Place;
use crate::url::host_and_port;

/// The database; not written means SQLite in the data directory.
pub(super) fn compile(
    place: &Place<'_>,
    written: Option<&Secret>,
    data_dir: &Path,
    context: &mut Context<'_>,
) -> Database {
    let Some(url) = written.and_then(|written| context.expand(place, written)) else {
        return Database::default();
    };
    match parse(url.expose()) {
        Ok((DatabaseKind::Sqlite, path)) => Database { url: Some(sqlite(data_dir, path)), kind: DatabaseKind::Sqlite },
        Ok((kind, _)) => Database { url: Some(url), kind },
        Err(message) => {
            context.problems.error(place, message);
            Database::default()
        }
    }
}

/// The kind of database, and what follows the scheme.
fn parse(url: &str) -> Result<(DatabaseKind, &str), String> {
    const EXPECTED: &str =
        "expected `postgres://user:password@host/name`, `mysql://…`, `mariadb://…` or `sqlite:/path`";
    let (scheme, rest) = url.split_once(':').ok_or(EXPECTED)?;
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => DatabaseKind::Postgres,
        "mysql" | "mariadb" => DatabaseKind::Mysql,
        "sqlite" => DatabaseKind::Sqlite,
        _ => return Err(EXPECTED.to_owned()),
    };
    if kind == DatabaseKind::Sqlite {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        check_path(path)?;
        return Ok((kind, path));
    }
    check_server(kind, rest.strip_prefix("//").ok_or(EXPECTED)?)?;
    Ok((kind, rest))
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.ends_with('/') {
        return Err("after `sqlite:` comes the path of a file".to_owned());
    }
    if path == ":memory:" {
        return Err("a database in memory is lost at the next restart; write the path of a file".to_owned());
    }
    if path.contains(['?', '#']) || path.contains(char::is_control) {
        return Err(
            "after `sqlite:` comes a path and nothing else; `?` and `#` in it are written %3F and %23".to_owned()
        );
    }
    Ok(())
}

fn check_server(kind: DatabaseKind, rest: &str) -> Result<(), String> {
    const ESCAPES: &str =
        "in a user name or password, `@`, `/`, `?`, `#` and `%` are written %40, %2F, %3F, %23 and %25";
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the URL has only visible ASCII characters; others are written as %XX".to_owned());
    }
    if rest.contains('#') {
        return Err(ESCAPES.to_owned());
    }
    let (address, query) = rest.split_once('?').map_or((rest, ""), |(address, query)| (address, query));
    let (authority, name) = address.split_once('/').unwrap_or((address, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // PostgreSQL's own way to name a socket: `postgres://%2Frun%2Fpostgresql/name`, or `?host=/run/postgresql`.
    let is_socket = host.to_ascii_lowercase().starts_with("%2f") || (host.is_empty() && query.contains("host="));
    if kind == DatabaseKind::Postgres && is_socket {
        return Ok(());
    }
    if let Err(message) = host_and_port(host) {
        let is_password_cut = rest.contains('@') && !authority.contains('@');
        return Err(if is_password_cut { ESCAPES.to_owned() } else { message });
    }
    if kind == DatabaseKind::Mysql && name.is_empty() {
        return Err("the name of the database is missing: `mysql://user:password@host/name`".to_owned());
    }
    Ok(())
}

/// The path made independent of the process's directory, as far as the data directory is.
fn sqlite(data_dir: &Path, path: &str) -> Secret {
    if path.starts_with('/') {
        return Secret::from(format!("sqlite:{path}"));
    }
    let mut url = String::from("sqlite:");
    for character in data_dir.to_string_lossy().chars() {
        match character {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            _ => url.push(character),
        }
    }
    if !url.ends_with('/') {
        url.push('/');
    }
    url.push_str(path);
    Secret::from(url)
}
