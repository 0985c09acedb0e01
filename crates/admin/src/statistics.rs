//! `/admin/api/v1/statistics/…`: sums in all, by group, by period.

use std::sync::Arc;

use aiproxy_core::time;
use aiproxy_store::query::{Dimension, Grouping, Groups, Order, Periods};
use axum::extract::{MatchedPath, Query as Pairs, State};
use axum::response::Response;
use serde_json::{Map, Value};

use crate::admin::Inner;
use crate::answer::{Refused, json_response};
use crate::json;
use crate::live::About;
use crate::parameters::{Parameters, Scope};

/// The groups that have a path, and what they are grouped by.
pub(crate) const GROUPS: [(&str, &[Dimension]); 8] = [
    ("users", &[Dimension::User]),
    ("departments", &[Dimension::Department]),
    ("keys", &[Dimension::Key]),
    ("channels", &[Dimension::Channel]),
    ("credentials", &[Dimension::Channel, Dimension::Credential]),
    ("models", &[Dimension::Model]),
    ("endpoints", &[Dimension::Endpoint]),
    ("errors", &[Dimension::Status, Dimension::ErrorCode]),
];

/// Of these groups only those in which calls failed are shown.
pub(crate) const ERRORS: &str = "errors";

type Named = Pairs<Vec<(String, String)>>;

/// Sums over a range.
pub(crate) async fn summary(State(inner): State<Arc<Inner>>, Pairs(pairs): Named) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let Scope { filter, zone } = parameters.scope(now_ms(), query.zone())?;
    let percentiles = parameters.switch("percentiles", true)?;
    parameters.finish()?;
    let found = query.summary(&filter, percentiles).await?;
    let mut map = json::head(found.range, &zone, &inner.live.about());
    map.insert("totals".into(), json::totals(&found.totals, found.latency.as_ref()).into());
    Ok(json_response(&map.into()))
}

/// Sums by what the path says.
pub(crate) async fn groups(
    State(inner): State<Arc<Inner>>,
    path: MatchedPath,
    Pairs(pairs): Named,
) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let Scope { filter, zone } = parameters.scope(now_ms(), query.zone())?;
    let by = path.as_str().rsplit('/').next().unwrap_or_default();
    let grouping = grouping(by, &mut parameters)?;
    // Over months they take seconds, and nobody should wait for what was not asked for.
    let percentiles = parameters.switch("percentiles", false)?;
    parameters.finish()?;
    let found = query.group_by(&filter, &grouping, percentiles).await?;
    let about = inner.live.about();
    let mut map = json::head(found.summary.range, &zone, &about);
    map.insert("totals".into(), json::totals(&found.summary.totals, found.summary.latency.as_ref()).into());
    map.insert("total_groups".into(), found.count.into());
    map.insert("groups".into(), group_list(&grouping.dimensions, &found, &about));
    Ok(json_response(&map.into()))
}

/// The groups of a path by its last word.
pub(crate) fn grouping(by: &str, parameters: &mut Parameters) -> Result<Grouping, Refused> {
    let dimensions = GROUPS.iter().find(|(name, _)| *name == by).map_or(&[][..], |(_, dimensions)| *dimensions);
    let failed_only = by == ERRORS;
    let default = if failed_only { Order::MostFailed } else { Order::Largest("calls") };
    let (order, limit) = (parameters.order(default)?, parameters.groups()?);
    Ok(Grouping { dimensions: dimensions.to_vec(), order, limit, failed_only })
}

fn group_list(dimensions: &[Dimension], found: &Groups, about: &About) -> Value {
    let groups = found.groups.iter().map(|group| {
        let mut map = json::group(dimensions, &group.key, about);
        map.extend(json::totals(&group.totals, group.latency.as_ref()));
        Value::from(map)
    });
    groups.collect()
}

/// Sums by period; by group within each, if asked for.
pub(crate) async fn timeseries(State(inner): State<Arc<Inner>>, Pairs(pairs): Named) -> Result<Response, Refused> {
    let query = inner.query()?;
    let mut parameters = Parameters::new(pairs);
    let Scope { filter, zone } = parameters.scope(now_ms(), query.zone())?;
    let granularity = parameters.granularity(&filter)?;
    let dimensions = parameters.group_by()?;
    let (order, limit) = (parameters.order(Order::Largest("calls"))?, parameters.series()?);
    let percentiles = parameters.switch("percentiles", false)?;
    parameters.finish()?;
    let grouping =
        (!dimensions.is_empty()).then(|| Grouping { dimensions: dimensions.clone(), order, limit, failed_only: false });
    let periods = Periods { granularity, zone: zone.clone(), grouping };
    let found = query.timeseries(&filter, &periods, percentiles).await?;
    let about = inner.live.about();
    let mut map = json::head(found.summary.range, &zone, &about);
    let name = match granularity {
        aiproxy_store::Granularity::Hour => "hour",
        aiproxy_store::Granularity::Day => "day",
        aiproxy_store::Granularity::Month => "month",
    };
    map.insert("granularity".into(), name.into());
    map.insert("totals".into(), json::totals(&found.summary.totals, found.summary.latency.as_ref()).into());
    let starts: Vec<_> = found.starts.iter().map(|start| json::moment(start * 1000, &zone)).collect();
    let series = found.series.iter().map(|series| {
        let mut map = match &series.key {
            Some(key) => json::group(&dimensions, key, &about),
            None => Map::from_iter([("rest".to_owned(), Value::Bool(true))]),
        };
        let points = series.points.iter().enumerate().map(|(at, totals)| {
            let mut point = Map::new();
            point.insert("start".into(), starts[at].clone().into());
            point.extend(json::totals(totals, series.latency.as_ref().map(|latency| &latency[at])));
            Value::from(point)
        });
        map.insert("points".into(), points.collect());
        Value::from(map)
    });
    map.insert("series".into(), series.collect());
    Ok(json_response(&map.into()))
}

/// The wall clock.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(time::unix_ms()).unwrap_or(i64::MAX)
}
