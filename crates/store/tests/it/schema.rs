//! Migrations, and opening what cannot be opened.

use aiproxy_core::Secret;
use aiproxy_ledger::{Sink, SinkError};
use aiproxy_store::{Options, SCHEMA_VERSION, Store, StoreErrorKind};

use crate::in_every_database;
use crate::sample::{batch, plain, sink, unconnected};
use crate::servers::{PASSWORD, TestDatabase};

in_every_database! {
    a_database_is_migrated_once,
    instances_that_start_together_migrate_one_after_the_other,
    a_newer_schema_is_refused,
}

async fn a_database_is_migrated_once(database: TestDatabase) {
    Store::connect(&database.options()).await.unwrap();
    sink(&database).await.write(&batch(&[plain(1)])).await.unwrap();
    Store::connect(&database.options()).await.unwrap();
    assert_eq!(database.count("schema_versions").await, SCHEMA_VERSION);
    assert_eq!(database.count("records").await, 1);
}

async fn instances_that_start_together_migrate_one_after_the_other(database: TestDatabase) {
    let options = database.options();
    let connect = || Store::connect(&options);
    let (one, two, three) = tokio::join!(connect(), connect(), connect());
    for outcome in [one, two, three] {
        outcome.unwrap();
    }
    assert_eq!(database.count("schema_versions").await, SCHEMA_VERSION);
}

async fn a_newer_schema_is_refused(database: TestDatabase) {
    Store::connect(&database.options()).await.unwrap();
    database.run("INSERT INTO schema_versions (version, applied_at_ms) VALUES (7, 0)").await;
    let error = Store::connect(&database.options()).await.map(drop).unwrap_err();
    let told = format!(
        "the database was written by a newer AIProxy (schema 7, this binary knows {SCHEMA_VERSION}); update the binary"
    );
    assert_eq!((error.kind(), error.to_string()), (StoreErrorKind::Newer, told.clone()));
    let outcome = unconnected(&database, "instance").resume().await;
    assert_eq!(outcome, Err(SinkError::Unavailable(told)));
}

/// What is told of a URL that differs from the right one by `from` and `to`.
async fn told(database: &TestDatabase, from: &str, to: &str) -> String {
    let url = database.url().replacen(from, to, 1);
    let options = Options::new(database.kind, Secret::from(url));
    let error = Store::connect(&options).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let told = error.to_string();
    assert!(!told.contains(PASSWORD) && !told.contains("canary"), "{told}");
    told
}

#[tokio::test]
async fn postgres_that_does_not_let_us_in_says_what_to_do() {
    let database = TestDatabase::postgres().await;
    let wrong = told(&database, PASSWORD, "canary").await;
    assert!(wrong.contains("does not let user aiproxy in") && wrong.contains("look at user and password"), "{wrong}");
    let missing = told(&database, &database.name, "nothing_here").await;
    assert!(missing.contains("there is no database nothing_here") && missing.contains("createdb"), "{missing}");
    let refused = told(&database, &format!(":{}/", database.port), ":1/").await;
    assert_eq!(refused, "nothing answers at 127.0.0.1:1: is PostgreSQL running there, and are host and port right?");
    let host = told(&database, "127.0.0.1", "no-such-host.invalid").await;
    assert!(host.starts_with("there is no host no-such-host.invalid: is its name right"), "{host}");
}

#[tokio::test]
async fn mariadb_that_does_not_let_us_in_says_what_to_do() {
    let database = TestDatabase::mariadb().await;
    let wrong = told(&database, PASSWORD, "canary").await;
    assert!(wrong.contains("does not let user aiproxy in") && wrong.contains("look at user and password"), "{wrong}");
    let missing = told(&database, &database.name, "nothing_here").await;
    assert!(missing.contains("there is no database nothing_here"), "{missing}");
    let refused = told(&database, &format!(":{}/", database.port), ":1/").await;
    assert_eq!(refused, "nothing answers at 127.0.0.1:1: is MySQL running there, and are host and port right?");
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://aiproxy:{PASSWORD}@{}/ledger", silent.local_addr().unwrap());
    let options = Options::new(aiproxy_config::snapshot::DatabaseKind::Postgres, Secret::from(url));
    tokio::time::pause();
    let error = Store::connect(&options).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("did not answer within 5 s"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside_and_never_deleted() {
    let database = TestDatabase::sqlite().await;
    let rubbish = b"this is not a database, but somebody may want it back".repeat(100);
    std::fs::write(&database.name, &rubbish).unwrap();
    sink(&database).await.write(&batch(&[plain(1)])).await.unwrap();
    assert_eq!(database.count("records").await, 1);
    let directory = std::path::Path::new(&database.name).parent().unwrap();
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = names.filter(|path| path.to_string_lossy().contains(".db.corrupt-")).collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(&aside[0]).unwrap(), rubbish);
}

#[tokio::test]
async fn a_file_that_breaks_while_it_is_used_is_moved_aside() {
    let database = TestDatabase::sqlite().await;
    drop(sink(&database).await);
    // Every page but the first is overwritten: the file opens, and cannot be written to.
    let mut bytes = std::fs::read(&database.name).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(&database.name, &bytes).unwrap();
    let mut sink = unconnected(&database, crate::sample::INSTANCE);
    let mut outcome = Err(SinkError::Unavailable(String::new()));
    for _ in 0..3 {
        outcome = match sink.resume().await {
            Ok(_) => sink.write(&batch(&[plain(1)])).await,
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            break;
        }
    }
    assert_eq!(outcome, Ok(()));
    assert_eq!(database.count("records").await, 1);
}

#[tokio::test]
async fn a_directory_that_is_missing_is_told() {
    let options = Options::sqlite(std::path::Path::new("/nonexistent/directory/aiproxy.db"));
    let error = Store::connect(&options).await.map(drop).unwrap_err();
    let why = "cannot be opened: does its directory exist, and may this user write to it?";
    assert_eq!(error.to_string(), format!("/nonexistent/directory/aiproxy.db {why}"));
}
