//! `/admin/api/v1/records…`: records as every sink has them.

use std::sync::Arc;

use axum::extract::{Path, Query as Pairs, State};
use axum::response::Response;

use crate::admin::Inner;
use crate::answer::{Refused, json_bytes};
use crate::parameters::{Parameters, Scope};
use crate::statistics::now_ms;

/// A page of records.
pub(crate) async fn list(
    State(inner): State<Arc<Inner>>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let Scope { filter, .. } = parameters.scope(now_ms(), query.zone())?;
    let (newest_first, limit) = (parameters.newest_first()?, parameters.page()?);
    let cursor = parameters.cursor()?;
    parameters.finish()?;
    let page = query.records(&filter, newest_first, cursor, limit).await?;
    let mut json = b"{\"records\":[".to_vec();
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        record.entry().write_json(&mut json);
        json.truncate(json.trim_ascii_end().len());
    }
    json.extend_from_slice(b"],\"next_cursor\":");
    match page.next {
        // A cursor is letters and digits.
        Some(cursor) => json.extend_from_slice(format!("\"{}\"", cursor.encode()).as_bytes()),
        None => json.extend_from_slice(b"null"),
    }
    json.push(b'}');
    Ok(json_bytes(json))
}

/// One record, with its bodies where they are kept.
pub(crate) async fn one(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Refused> {
    let query = inner.query()?;
    Parameters::new(pairs).finish()?;
    let id: uuid::Uuid = id.parse().map_err(|_| {
        Refused::parameter("id", "This is no id of a record: 32 hexadecimal digits, with or without hyphens.")
    })?;
    let missing = || Refused::not_found("There is no such record; it may be older than records are kept for.");
    let record = query.record(id.into_bytes()).await?.ok_or_else(missing)?;
    let bodies = query.bodies(id.into_bytes()).await?;
    let mut json = Vec::new();
    record.entry().write_json(&mut json);
    json.truncate(json.trim_ascii_end().len());
    // The record is an object: its last byte makes room for one more field.
    json.pop();
    json.extend_from_slice(b",\"bodies\":");
    match bodies {
        None => json.extend_from_slice(b"null"),
        Some(bodies) => {
            let part = |body: Option<String>| body.unwrap_or_else(|| "null".to_owned());
            let (request, response) = (part(bodies.request), part(bodies.response));
            json.extend_from_slice(format!("{{\"request\":{request},\"response\":{response}}}").as_bytes());
        }
    }
    json.push(b'}');
    Ok(json_bytes(json))
}
