"""One mix of calls, counted in seven places: they agree to the unit."""

import datetime
import json
import random
from collections import Counter, defaultdict

import pytest

from harness import http1
from harness.admin import Admin, Metrics, csv_rows, with_token, xlsx_rows
from harness.databases import Sqlite, assert_sums_agree
from harness.gateway import Gateway
from harness.polling import until
from harness.upstream import RawUpstream, plain

CALLS = 150
PRICES = {"models": {"model-a": {"input": 1, "output": 2, "cached": 0.5}, "model-b": {"input": 3, "output": 5}}}
UNITS = ("input", "output", "cached", "reasoning")
PATHS = {"openai": "/v1/chat/completions", "everyone": "/v1/chat/completions", "anthropic": "/v1/messages"}
API = "/admin/api/v1"
EVERY_PATH = [
    "/stats",
    "/metrics",
    f"{API}/status",
    *(f"{API}/statistics/{report}" for report in (
        "summary", "users", "departments", "keys", "channels", "credentials", "models", "endpoints", "errors",
        "timeseries", "export",
    )),
    f"{API}/records",
    f"{API}/records/export",
    f"{API}/records/01a1fdc3-0ced-7a2e-9636-6b0735136a23",
]


def answer(request, connection):
    """What the model's name says: tokens, an error, a broken answer."""
    if request.method == "GET":
        return plain({"object": "list", "data": []})(request, connection)
    asked = json.loads(request.body)
    tokens = asked["messages"][0]["content"].split()[-3:]
    tokens_in, tokens_out, cached = (int(number) for number in tokens)
    if asked["model"] == "model-fails":
        return plain({"error": {"message": "no", "code": "server_error"}}, status="500 No")(request, connection)
    if asked["model"] == "model-breaks":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        return "close"
    if request.target == "/v1/messages":
        usage = {"input_tokens": tokens_in - cached, "cache_read_input_tokens": cached, "output_tokens": tokens_out}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": asked["model"]}
        return plain({**message, "usage": usage})(request, connection)
    details = {"prompt_tokens_details": {"cached_tokens": cached}}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, **details}
    if asked.get("stream"):
        choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
        named = {"model": asked["model"]}
        events = [{**named, "choices": [choice]}, {**named, "choices": [], "usage": usage}]
        body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
        return plain(body, "text/event-stream")(request, connection)
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return plain({"id": "c1", "model": asked["model"], "choices": [choice], "usage": usage})(request, connection)


def make_calls(gateway):
    """Call as the dice say. Returns what was answered, as (user, model, status), and all tokens that were served."""
    dice = random.Random(20_261_121)
    made, served = [], Counter()
    models = ["model-a", "model-b", "model-no-price", "model-fails", "model-breaks"]
    for _ in range(CALLS):
        user = dice.choice(list(PATHS))
        model = dice.choices(models, [6, 4, 2, 2, 1])[0]
        tokens_in, tokens_out = dice.randrange(10, 5_000), dice.randrange(0, 3_000)
        cached = dice.randrange(0, tokens_in)
        content = f"{'word ' * dice.randrange(20)} {tokens_in} {tokens_out} {cached}"
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 10}
        if user != "anthropic" and dice.random() < 0.5:
            body["stream"] = True
        try:
            status = http1.call(gateway.base_url, "POST", PATHS[user], gateway.bearer(user), body).status
        except (http1.http.client.IncompleteRead, ConnectionResetError):
            status = 200
        made.append((user, model, status))
        if model in ("model-a", "model-b", "model-no-price"):
            served.update(input=tokens_in, output=tokens_out, cached=cached)
    for key in ("=unknown", "unknown"):
        refused = http1.call(gateway.base_url, "POST", PATHS["openai"], {"x-api-key": key}, http1.chat_body())
        made.append((None, None, refused.status))
    made.append(("leaver", "demo", http1.chat(gateway, "leaver").status))
    return made, served


class Mix:
    """A gateway after all those calls."""

    def __init__(self, directory):
        self.upstream = RawUpstream(answer)
        token, system = with_token(prices=PRICES, timezone="Asia/Shanghai")
        self.gateway = Gateway(directory, self.upstream.url, system=system)
        self.admin = Admin(self.gateway, token)
        self.made, self.served = make_calls(self.gateway)
        self.records = self.gateway.records.wait_for(len(self.made))
        self.admin.settled(len(self.made))

    def stop(self):
        self.upstream.stop()
        self.gateway.stop()


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    running = Mix(tmp_path_factory.mktemp("statistics"))
    yield running
    running.stop()


def succeeded(kept):
    return kept["status"] < 400 and kept["end"] in ("complete", "client_closed")


def model_of(kept):
    return kept["model_served"] or kept["model_asked"]


def totals(records):
    """The sums of records, by the names of the API."""
    wins = sum(succeeded(kept) for kept in records)
    return {
        "calls": len(records),
        "succeeded": wins,
        "failed": len(records) - wins,
        "counted": sum(kept["counted"] for kept in records),
        "request_bytes": sum(kept["request_bytes"] for kept in records),
        "response_bytes": sum(kept["response_bytes"] for kept in records),
        "cost": sum(kept["cost"] or 0 for kept in records),
        "unpriced": sum(kept["price_version"] == "unpriced" for kept in records),
        "estimated": sum(kept["usage_source"] == "estimated" for kept in records),
        "usage": {unit: sum((kept["usage"] or {}).get(unit) or 0 for kept in records) for unit in UNITS},
    }


def of_sum(found):
    """The same of a sum of the API."""
    names = totals([])
    return {**{name: found[name] for name in names}, "usage": {unit: found["usage"][unit] for unit in UNITS}}


def grouped(records, key):
    groups = defaultdict(list)
    for kept in records:
        groups[key(kept)].append(kept)
    return {name: totals(members) for name, members in groups.items()}


def test_the_records_are_what_callers_saw(mix):
    seen = Counter((user, model, status) for user, model, status in mix.made)
    kept = Counter((kept["user_id"], kept["model_asked"] and model_of(kept), kept["status"]) for kept in mix.records)
    assert sum(seen.values()) == sum(kept.values()) == CALLS + 3
    assert Counter(status for _, _, status in seen.elements()) == Counter(status for _, _, status in kept.elements())
    for key in seen:
        assert key[0] not in PATHS or kept[key] == seen[key], key
    provided = [record for record in mix.records if record["usage_source"] == "provider"]
    assert totals(provided)["usage"] == {"reasoning": 0, **mix.served}
    assert totals(mix.records)["unpriced"] > 0 and totals(mix.records)["failed"] > 3 and totals(mix.records)["cost"] > 0


def test_the_summary(mix):
    found = mix.admin.statistics("summary")
    assert of_sum(found["totals"]) == totals(mix.records)
    durations = sorted(kept["duration_ms"] for kept in mix.records)
    told = found["totals"]["duration_ms"]
    assert told["calls"] == len(durations) and abs(told["mean"] - sum(durations) / len(durations)) < 0.01
    assert durations[0] * 0.9 <= told["p50"] <= told["p95"] <= told["p99"] <= durations[-1] * 1.1
    median = durations[len(durations) // 2]
    assert abs(told["p50"] - median) <= 0.05 * median + 0.05
    assert found["timezone"] == "Asia/Shanghai" and found["currency"] == "USD"


GROUPS = {
    "users": ("user_id", lambda kept: kept["user_id"]),
    "departments": ("department", lambda kept: kept["department"]),
    "keys": ("key_id", lambda kept: kept["key_id"]),
    "channels": ("channel_id", lambda kept: kept["channel_id"]),
    "models": ("model", model_of),
    "endpoints": ("endpoint", lambda kept: kept["endpoint"]),
}


@pytest.mark.parametrize("report", GROUPS)
def test_sums_by_group(mix, report):
    name, key = GROUPS[report]
    found = mix.admin.statistics(report)
    assert {group[name]: of_sum(group) for group in found["groups"]} == grouped(mix.records, key)
    assert of_sum(found["totals"]) == totals(mix.records)
    assert found["total_groups"] == len(found["groups"])
    calls = [group["calls"] for group in found["groups"]]
    assert calls == sorted(calls, reverse=True)
    one = mix.admin.statistics(report, limit=1)
    assert one["groups"] == found["groups"][:1] and one["totals"] == found["totals"]


def test_errors_are_those_that_failed(mix):
    found = mix.admin.statistics("errors")
    failed = [kept for kept in mix.records if not succeeded(kept)]
    by_code = grouped(failed, lambda kept: (kept["status"], kept["error_code"]))
    told = {(group["status"], group["error_code"]): group["failed"] for group in found["groups"]}
    assert told == {key: sums["failed"] for key, sums in by_code.items()}


@pytest.mark.parametrize("granularity", ["hour", "day", "month"])
def test_a_series_of_periods_adds_up(mix, granularity):
    start = datetime.datetime.now() - datetime.timedelta(days=2)
    found = mix.admin.statistics(
        "timeseries", granularity=granularity, group_by="user_id", start=f"{start:%Y-%m-%d}", timezone="Asia/Shanghai"
    )
    assert of_sum(found["totals"]) == totals(mix.records)
    users = grouped(mix.records, lambda kept: kept["user_id"])
    for series in found["series"]:
        sums = [of_sum(point) for point in series["points"]]
        expected = users.pop(series["user_id"]) if "user_id" in series else totals([])
        added = {name: sum(point[name] for point in sums) for name in expected if name != "usage"}
        usage = {unit: sum(point["usage"][unit] for point in sums) for unit in UNITS}
        assert {**added, "usage": usage} == expected
    assert users == {}, "everybody has a series"


def test_days_are_those_of_the_time_zone_asked_for(mix):
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [today - datetime.timedelta(days=days) for days in (5, 4, 3)]
    for zone, offset in [("Asia/Shanghai", "+08:00"), ("America/Phoenix", "-07:00"), ("UTC", "+00:00")]:
        asked = {"start": days[0].isoformat(), "end": days[-1].isoformat(), "timezone": zone}
        found = mix.admin.statistics("timeseries", granularity="day", **asked)
        starts = [point["start"] for point in found["series"][0]["points"]]
        assert starts == [f"{day}T00:00:00{offset}" for day in days], zone
    refused = mix.admin.get(f"{API}/statistics/timeseries", granularity="hour", timezone="Asia/Kolkata")
    assert refused.status == 400 and refused.json()["error"]["parameter"] == "timezone"


def test_filters_narrow_everything_alike(mix):
    users = ("openai", "anthropic")
    chosen = [kept for kept in mix.records if kept["user_id"] in users and model_of(kept) == "model-a"]
    asked = {"user_id": ["openai", "anthropic"], "model": "model-a"}
    assert of_sum(mix.admin.statistics("summary", **asked)["totals"]) == totals(chosen)
    assert len(list(mix.admin.records(**asked))) == len(chosen)
    failed = [kept for kept in mix.records if kept["status"] // 100 == 5]
    assert of_sum(mix.admin.statistics("summary", status="5xx")["totals"]) == totals(failed)
    nobody = [kept for kept in mix.records if kept["user_id"] is None]
    assert of_sum(mix.admin.statistics("summary", user_id="")["totals"]) == totals(nobody)


@pytest.mark.parametrize("order,limit", [("newest", 7), ("oldest", 50), ("newest", 1000)])
def test_pages_of_records_are_all_records_once(mix, order, limit):
    found = list(mix.admin.records(limit=limit, order=order))
    expected = mix.records if order == "oldest" else mix.records[::-1]
    assert found == expected, "the same documents as in the file"


def test_one_record(mix):
    kept = mix.records[5]
    assert mix.admin.json(f"{API}/records/{kept['id']}") == {**kept, "bodies": None}
    assert mix.admin.json(f"{API}/records/{kept['id'].replace('-', '')}") == {**kept, "bodies": None}
    assert mix.admin.get(f"{API}/records/{kept['id'][:-4]}ffff").status == 404


def test_the_rows_of_sqlite(mix):
    database = Sqlite(mix.gateway.directory / "data/aiproxy.db")
    usage = "COALESCE(input, 0), COALESCE(output, 0), COALESCE(cached, 0)"
    sql = f"SELECT id, user_id, status, ended, {usage}, cost, counted"
    usage = [(kept["usage"] or {}) for kept in mix.records]
    expected = [
        (kept["id"], kept["user_id"] or "", kept["status"], kept["end"], use.get("input") or 0, use.get("output") or 0,
         use.get("cached") or 0, kept["cost"], int(kept["counted"]))
        for kept, use in zip(mix.records, usage)
    ]
    assert database.query(f"{sql} FROM record_lines ORDER BY id") == expected
    assert_sums_agree(database)


@pytest.mark.parametrize("form,read", [("csv", csv_rows), ("xlsx", xlsx_rows)])
def test_an_export_of_records_has_every_record(mix, form, read):
    rows = read(mix.admin.get(f"{API}/records/export", format=form, order="oldest"))
    assert [row["id"] for row in rows] == [kept["id"] for kept in mix.records]
    for row, kept in zip(rows, mix.records):
        assert (row["user_id"], row["status"]) == (kept["user_id"] or "", str(kept["status"]))
        assert row["cost"] == ("" if kept["cost"] is None else str(kept["cost"]))
        assert row["request_bytes"] == str(kept["request_bytes"])
        assert row["model_asked"] == (kept["model_asked"] or "")


@pytest.mark.parametrize("form,read", [("csv", csv_rows), ("xlsx", xlsx_rows)])
@pytest.mark.parametrize("report", ["users", "models", "channels", "endpoints"])
def test_an_export_of_a_report_has_the_same_sums(mix, report, form, read):
    rows = read(mix.admin.get(f"{API}/statistics/export", report=report, format=form))
    name, key = GROUPS[report]
    expected = grouped(mix.records, key)
    assert {row[name] for row in rows} == {group or "" for group in expected}
    for row in rows:
        sums = expected[row[name] or None]
        flat = {**sums, **sums["usage"]}
        del flat["usage"]
        assert {unit: int(row[unit]) for unit in flat} == flat, row


def test_stats_in_the_older_form(mix):
    found = mix.admin.json("/stats")
    expected = totals(mix.records)
    assert (found["total_requests"], found["successful_requests"]) == (expected["calls"], expected["succeeded"])
    assert (found["failed_requests"], found["cost"]) == (expected["failed"], expected["cost"])
    assert (found["request_bytes"], found["response_bytes"]) == (expected["request_bytes"], expected["response_bytes"])
    assert (found["unpriced_requests"], found["estimated_requests"]) == (expected["unpriced"], expected["estimated"])
    assert {unit: found["usage"].get(unit, 0) for unit in UNITS} == expected["usage"]
    assert found["success_rate"] == f"{100 * expected['succeeded'] / expected['calls']:.2f}%"
    for table, key in [("user_stats", "user_id"), ("channel_stats", "channel_id")]:
        groups = grouped([kept for kept in mix.records if kept[key]], lambda kept: kept[key])
        told = {name: row["requests"] for name, row in found[table].items() if row["requests"]}
        assert told == {name: sums["calls"] for name, sums in groups.items()}
        assert all(found[table][name]["cost"] == sums["cost"] for name, sums in groups.items())


def test_metrics_are_openmetrics_and_agree(mix):
    answer = mix.admin.get("/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/openmetrics-text")
    metrics, expected = Metrics(answer.body.decode()), totals(mix.records)
    metrics.assert_histograms_are_sound()
    assert metrics.sum("aiproxy_calls_total") == expected["calls"]
    assert metrics.sum("aiproxy_endpoint_calls_total") == expected["calls"]
    assert metrics.sum("aiproxy_call_duration_seconds_count") == expected["calls"]
    assert metrics.sum("aiproxy_call_first_byte_seconds_count") == sum(
        kept["first_byte_ms"] is not None for kept in mix.records
    )
    for unit in ("input", "output", "cached"):
        assert metrics.sum("aiproxy_usage_total", kind=unit) == expected["usage"][unit]
    assert round(metrics.sum("aiproxy_cost_total") * 1e6) == expected["cost"]
    assert metrics.sum("aiproxy_request_bytes_total") == expected["request_bytes"]
    assert metrics.sum("aiproxy_unpriced_calls_total") == expected["unpriced"]
    assert metrics.sum("aiproxy_journal_records_total") == expected["calls"]
    channels = Counter(kept["channel_id"] for kept in mix.records if kept["channel_id"])
    for channel, calls in channels.items():
        assert metrics.sum("aiproxy_calls_total", channel=channel) == calls
    secrets = [text for _, labels, _ in metrics.samples for text in labels.values() if "canary" in text]
    assert secrets == []


@pytest.mark.parametrize("path", EVERY_PATH)
def test_nothing_without_the_token(mix, path):
    for headers in ({}, mix.gateway.bearer("openai"), {"Authorization": "Bearer x"}):
        answer = http1.call(mix.gateway.base_url, "GET", path, headers)
        assert answer.status == 401 and b"model-a" not in answer.body


WRONG = [
    ("statistics/summary", {"strat": "2026-11-01"}, "strat"),
    ("statistics/users", {"limit": "0"}, "limit"),
    ("statistics/users", {"order": "beauty"}, "order"),
    ("statistics/timeseries", {"granularity": "second"}, "granularity"),
    ("statistics/summary", {"timezone": "Mars/Olympus"}, "timezone"),
    ("statistics/summary", {"start": "yesterday"}, "start"),
    ("records", {"limit": "1001"}, "limit"),
    ("records", {"cursor": "garbage"}, "cursor"),
    ("records/export", {"format": "pdf"}, "format"),
    ("statistics/export", {"report": "horoscope"}, "report"),
    ("records", {"page": "2"}, "page"),
]


@pytest.mark.parametrize("path,parameters,named", WRONG, ids=[f"{path} {name}" for path, _, name in WRONG])
def test_a_wrong_parameter_is_named(mix, path, parameters, named):
    answer = mix.admin.get(f"{API}/{path}", **parameters)
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["code"], error["parameter"]) == ("invalid_request", named) and error["message"]


@pytest.mark.parametrize("form,read", [("csv", csv_rows), ("xlsx", xlsx_rows)])
def test_what_a_spreadsheet_would_run_is_a_text(serve, upstreams, form, read):
    """Callers choose the names of models; whoever opens the export must not run them."""
    token, system = with_token()
    gateway = serve(upstreams(answer).url, system=system)
    names = ["=1+1", "+1", "-1", "@SUM(A1)", 'a "name", with a comma', "two\nlines", "<b>&amp;", "张三 \U0001f600"]
    for name in names:
        http1.chat(gateway, model=name, messages=[{"role": "user", "content": "5 5 5"}])
    admin = Admin(gateway, token)
    admin.settled(len(names))
    told = sorted(row["model_asked"] for row in read(admin.get(f"{API}/records/export", format=form)))
    guarded = sorted(f"'{name}" if name[0] in "=+-@" else name for name in names)
    assert told in ([guarded] if form == "csv" else [guarded, sorted(names)]), "text cells of an XLSX may be as they are"


def test_everything_is_the_same_after_a_restart(tmp_path):
    mix = Mix(tmp_path)
    try:
        before = mix.admin.json("/stats"), mix.admin.statistics("summary")["totals"]
        mix.gateway.finish()
        mix.gateway.restart()
        mix.admin.settled(len(mix.made))
        after = until(lambda: stats_of(mix.admin, len(mix.made)), 5, "/stats knows what was")
        same = ("total_requests", "successful_requests", "usage", "cost", "user_stats", "model_stats", "since")
        assert [after[name] for name in same] == [before[0][name] for name in same]
        assert mix.admin.statistics("summary")["totals"] == before[1]
        metrics = Metrics(mix.admin.get("/metrics").body.decode())
        assert metrics.sum("aiproxy_calls_total", channel="openai") == 0, "counters begin anew with each process"
    finally:
        mix.stop()


def stats_of(admin, calls):
    found = admin.json("/stats")
    return found if found["total_requests"] == calls else None
