"""Quotas let through what they say and not one call more, through bursts, reloads, kills and restarts."""

import datetime
import signal
import threading
import time

import pytest

from harness import http1, secrets
from harness.admin import Admin, with_token
from harness.polling import until
from harness.served import CountingUpstream, Load
from harness.upstream import CHAT, plain

# A call of CHAT uses 19 + 10 tokens, which cost 39 millionths.
PRICES = {"models": {"demo": {"input": 1, "output": 2}, "gpt-4o-mini": {"input": 1, "output": 2}}}
ERROR_CODES = {
    "openai": lambda error: error["error"]["code"],
    "anthropic": lambda error: error["error"]["details"]["error_code"],
    "gemini": lambda error: error["error"]["details"][0]["reason"],
    "dashscope": lambda error: error["code"],
}
CHAT_PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/demo:generateContent",
    "dashscope": "/api/v1/services/aigc/text-generation/generation",
}


def quota(unit, per, amount, **more):
    return {"unit": unit, "per": per, "amount": amount, **more}


def limited(serve, upstream_url, *quotas, users=("openai",), **system):
    """A gateway whose users have these quotas."""

    def change(config):
        for user in users:
            config["users"][user]["quotas"] = list(quotas)

    return serve(upstream_url, system={"prices": PRICES, **system}, change=change)


def let_through(gateway, user="openai", most=20, **fields):
    """How many calls, one after the other, are served until one is refused; and the refusal."""
    for number in range(most):
        answer = http1.chat(gateway, user, **fields)
        if answer.status != 200:
            assert answer.status == 429 and answer.code() == "quota_exceeded", answer.body
            return number, answer
    raise AssertionError(f"{most} calls were served")


def fire(gateway, threads, user="openai"):
    """The answers to calls that begin together."""
    barrier, answers = threading.Barrier(threads), []

    def call():
        barrier.wait()
        answers.append(http1.chat(gateway, user))

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return answers


def slow(request, connection):
    time.sleep(0.3)
    plain(CHAT)(request, connection)


@pytest.mark.parametrize("answer", [plain(CHAT), slow], ids=["at once", "later"])
def test_of_forty_at_once_a_quota_of_five_lets_five_pass(serve, upstreams, answer):
    upstream = upstreams(answer)
    gateway = limited(serve, upstream.url, quota("requests", "total", 5))
    answers = fire(gateway, 40)
    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 35
    assert {answer.code() for answer in answers if answer.status == 429} == {"quota_exceeded"}
    assert len(upstream.requests) == 5
    assert http1.chat(gateway).status == 429
    kept = gateway.records.wait_for(41)
    assert sum(record["counted"] for record in kept) == 5


def test_a_token_quota_lets_calls_begin_while_there_is_something_left(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("tokens", "total", 100))
    # 0, 29, 58 and 87 are less than 100.
    passed, refusal = let_through(gateway, max_tokens=1)
    assert passed == 4 and "token" in refusal.json()["error"]["message"]
    models = http1.call(gateway.base_url, "GET", "/v1/models", gateway.bearer())
    assert models.status != 429, "a list of models needs no tokens"


def test_a_cost_quota_is_counted_in_money(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("cost", "total", 0.0001))
    # 0, 39 and 78 are less than 100 millionths.
    passed, refusal = let_through(gateway, max_tokens=1)
    assert passed == 3 and refusal.headers["x-should-retry"] == "false"
    assert sum(kept["cost"] or 0 for kept in gateway.records.wait_for(4)) == 117


def end_of_month():
    now = datetime.datetime.now(datetime.timezone.utc)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + datetime.timedelta(days=32)).replace(day=1)


@pytest.mark.parametrize("dialect", CHAT_PATHS)
def test_a_used_up_quota_says_so_in_the_callers_dialect(serve, upstreams, dialect):
    upstream = upstreams(plain(CHAT))
    gateway = limited(serve, upstream.url, quota("requests", "month", 1), users=[dialect])
    body = http1.chat_body(max_tokens=5)

    def call():
        return http1.call(gateway.base_url, "POST", CHAT_PATHS[dialect], gateway.bearer(dialect), body)

    assert call().status == 200
    refusal = call()
    assert refusal.status == 429 and refusal.headers["content-type"].startswith("application/json")
    assert ERROR_CODES[dialect](refusal.json()) == "quota_exceeded"
    assert refusal.headers["x-should-retry"] == "false"
    left = (end_of_month() - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert abs(int(refusal.headers["retry-after"]) - left) < 60
    assert end_of_month().strftime("%Y-%m-01T00:00:00") in refusal.body.decode(), "when it begins anew"
    assert len(upstream.requests) == 1


def test_a_total_that_is_used_up_names_no_time(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("requests", "total", 1))
    _, refusal = let_through(gateway)
    assert refusal.headers["retry-after"] is None and refusal.headers["x-should-retry"] == "false"


def test_the_month_is_that_of_the_time_zone(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("requests", "month", 1), timezone="Asia/Shanghai")
    _, refusal = let_through(gateway)
    assert "-01T00:00:00+08:00" in refusal.body.decode()


def test_refused_calls_use_nothing_and_a_reload_knows_what_was_used(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("requests", "total", 3))
    assert let_through(gateway)[0] == 3
    assert [http1.chat(gateway).status for _ in range(20)] == [429] * 20
    gateway.config["users"]["openai"]["quotas"] = [quota("requests", "total", 5), quota("tokens", "total", 1_000_000)]
    gateway.write_config()
    until(lambda: http1.chat(gateway).status == 200, 5, "the new quota is in force")
    assert let_through(gateway)[0] == 1, "3 + 1 + 1"
    kept = until(lambda: counting(gateway, 5), 5, "five records that count")
    assert all(record["cost"] is None and record["usage"] is None for record in kept if not record["counted"])


def counting(gateway, wanted):
    """All records, once so many of them count."""
    kept = gateway.records.all()
    return kept if sum(record["counted"] for record in kept) == wanted else None


def test_a_quota_that_is_added_knows_what_was_used_before(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url)
    assert [http1.chat(gateway).status for _ in range(4)] == [200] * 4
    gateway.config["users"]["openai"]["quotas"] = [quota("tokens", "month", 4 * 29)]
    gateway.write_config()
    refusal = until(lambda: refused(gateway), 5, "the new quota is in force")
    assert refusal.code() == "quota_exceeded"


def refused(gateway, user="openai"):
    answer = http1.chat(gateway, user)
    return answer if answer.status == 429 else None


def test_a_soft_quota_warns_the_caller_and_the_log_once(serve, upstreams):
    gateway = limited(serve, upstreams(plain(CHAT)).url, quota("requests", "month", 2, soft=True))
    answers = [http1.chat(gateway) for _ in range(6)]
    assert {answer.status for answer in answers} == {200}
    warnings = [answer.headers["x-aiproxy-quota-warning"] for answer in answers]
    assert warnings[0] is None and all(warnings[2:]), warnings
    assert warnings[5].startswith("user requests/month ") and "of 2" in warnings[5], warnings
    assert gateway.process.log().count("a soft quota is used up; calls go on") == 1


@pytest.mark.parametrize("where", ["group", "department", "channel", "key", "credential"])
def test_what_several_share_is_counted_together(serve, upstreams, where):
    upstream = upstreams(plain(CHAT))

    def change(config):
        quotas = {"quotas": [quota("requests", "total", 3)]}
        openai = config["channels"]["openai"]
        for user in ("openai", "everyone"):
            config["users"][user]["channels"] = ["openai"]
        if where == "group":
            config["groups"] = {"interns": quotas}
            for user in ("openai", "everyone"):
                config["users"][user]["groups"] = ["interns"]
        elif where == "department":
            config["departments"] = {"Testing": quotas}
        elif where == "channel":
            openai.update(quotas)
        elif where == "credential":
            openai["credentials"] = [{"id": "one", "api_key": openai.pop("api_key"), **quotas}]
        else:
            key = config["users"]["openai"].pop("proxy_key")
            config["users"]["openai"]["proxy_keys"] = [{"id": "one", "key": key, **quotas}]

    gateway = serve(upstream.url, change=change)
    assert http1.chat(gateway, "openai").status == 200
    others = [http1.chat(gateway, "everyone").status for _ in range(2)]
    assert others == [200] * 2
    if where == "key":
        assert let_through(gateway, "openai")[0] == 2, "a key's quota is its own"
        assert http1.chat(gateway, "everyone").status == 200
        return
    for user in ("everyone", "openai"):
        refusal = http1.chat(gateway, user)
        assert refusal.status == 429 and refusal.code() == "quota_exceeded", refusal.body
    assert len(upstream.requests) == 3


def test_a_used_up_credential_makes_room_for_another(serve, upstreams):
    upstream = upstreams(plain(CHAT))

    def change(config):
        openai = config["channels"]["openai"]
        key = openai.pop("api_key")
        first = {"id": "one", "api_key": key, "quotas": [quota("requests", "total", 2)]}
        openai["credentials"] = [first, {"id": "two", "api_key": secrets.canary("real")}]

    gateway = serve(upstream.url, change=change)
    assert [http1.chat(gateway).status for _ in range(8)] == [200] * 8
    used = [kept["credential_id"] for kept in gateway.records.wait_for(8)]
    assert used.count("one") == 2 and used.count("two") == 6


def test_counts_survive_a_kill(serve, upstreams):
    quotas = [quota("requests", "total", 12), quota("tokens", "total", 10**6)]
    gateway = limited(serve, upstreams(plain(CHAT)).url, *quotas)
    assert [http1.chat(gateway).status for _ in range(7)] == [200] * 7
    gateway.process.signal(signal.SIGKILL)
    gateway.process.wait()
    gateway.restart()
    assert let_through(gateway)[0] == 5
    kept = gateway.records.wait_for(13)
    assert sum(record["counted"] for record in kept) == 12


def test_killed_under_load_the_counted_records_are_what_the_quota_let_through(serve):
    """Calls that a kill cut off left no record, and used nothing of the quota; all others did."""
    upstream = CountingUpstream()
    token, system = with_token(prices=PRICES)
    gateway = limited(serve, upstream.url, quota("requests", "total", 900), **system)
    try:
        for _ in range(3):
            load = Load(int(gateway.base_url.rsplit(":", 1)[1]), gateway.keys["openai"])
            until(lambda: load.count() > 100, 20, "calls")
            gateway.process.signal(signal.SIGKILL)
            gateway.process.wait()
            load.stop()
            assert set(load.statuses) == {200}
            gateway.restart()
        load = Load(int(gateway.base_url.rsplit(":", 1)[1]), gateway.keys["openai"])
        until(lambda: load.statuses.get(429, 0) > 20, 30, "the quota is used up")
        load.stop()
    finally:
        upstream.stop()
    admin = Admin(gateway, token)
    known = until(lambda: counted_in(admin, gateway), 10, "the statistics agree with the file")
    assert known == 900


def counted_in(admin, gateway):
    """The number of calls that counted, once the database and the file agree on it and neither has more to come."""
    in_file = [kept["counted"] for kept in gateway.records.all()]
    summary = admin.statistics("summary", percentiles="false")["totals"]
    agreed = (summary["calls"], summary["counted"]) == (len(in_file), sum(in_file))
    return sum(in_file) if agreed and sum(in_file) >= 900 else None
