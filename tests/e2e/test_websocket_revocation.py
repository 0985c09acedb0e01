"""Whoever may no longer speak stops speaking: on live sockets, within two seconds, in words of the dialect."""

import time

import pytest

from harness import http1
from harness.polling import until
from harness.secrets import canary
from harness.websocket import CLOSE, TEXT, Sockets, connect, opened, refusal
from harness.websocket_dialects import (
    DASHSCOPE,
    GEMINI,
    OPENAI,
    as_binary,
    realtime_usage,
    response_created,
    response_done,
    run_task,
    setup,
    task_event,
    turn,
)

ENDED_WITHIN = 2.0
PRICES = {"models": {"demo-realtime": {"input": 1, "output": 2}}}
USERS = {"openai": OPENAI, "dashscope": DASHSCOPE, "gemini": GEMINI}


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


def disable_key(config, user, key):
    config["users"][user].pop("proxy_key")
    config["users"][user]["proxy_keys"] = [{"id": user, "key": key, "status": "disabled"}]
    return "key_disabled"


def expire_key(config, user, key):
    config["users"][user].pop("proxy_key")
    config["users"][user]["proxy_keys"] = [{"id": user, "key": key, "expires_at": "2020-01-01T00:00:00Z"}]
    return "key_expired"


def remove_key(config, user, key):
    config["users"][user]["proxy_key"] = canary("another")
    return "invalid_credential"


def disable_user(config, user, key):
    config["users"][user]["status"] = "disabled"
    return "user_disabled"


def disable_channel(config, user, key):
    config["channels"][user]["status"] = "disabled"
    return "no_channel_available"


def take_channel_away(config, user, key):
    config["users"][user]["channels"] = ["anthropic"]
    return "channel_not_allowed"


REVOCATIONS = [disable_key, expire_key, remove_key, disable_user, disable_channel, take_channel_away]
CHANNEL_CODES = {"no_channel_available", "channel_not_allowed"}


def begin(client, provider, dialect):
    """A conversation that is going on when it ends: what the SDK is told of the end depends on it."""
    if dialect == "dashscope":
        for task in ("one", "two"):
            client.say(**run_task("demo-voice", task))
            provider.hear()
            provider.say(**task_event("task-started", task))
            client.hear()
    elif dialect == "gemini":
        client.say(**setup("models/demo-live"))
        provider.hear()
        provider.binary(as_binary({"setupComplete": {}}))
        client.hear()
    else:
        provider.say(type="session.created", event_id="e", session={"model": "demo-realtime"})
        client.hear()


def assert_told(client, dialect, code):
    """The error events of the dialect, then close 1008. Returns when it was closed."""
    codes = CHANNEL_CODES if code in CHANNEL_CODES else {code}
    if dialect == "dashscope":
        told = [client.hear()["header"] for _ in range(2)]
        assert {header["task_id"] for header in told} == {"one", "two"}
        assert {header["event"] for header in told} == {"task-failed"}
        assert {header["error_code"] for header in told} <= codes and all(header["error_message"] for header in told)
    elif dialect == "openai":
        event = client.hear()
        assert event["type"] == "error" and event["error"]["code"] in codes and event["error"]["message"]
    closing = client.next(CLOSE)
    closed_at = time.monotonic()
    assert closing.code == 1008 and len(closing.reason) > 5
    client.close(1008)
    return closed_at


@pytest.mark.parametrize("revoke", REVOCATIONS)
@pytest.mark.parametrize("dialect", USERS)
def test_a_live_socket_ends_within_two_seconds(serve, upstreams, sockets, dialect, revoke):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, USERS[dialect], dialect)
    bystander, their_provider = opened(gateway, sockets, OPENAI, "everyone")
    begin(client, provider, dialect)
    code = revoke(gateway.config, dialect, gateway.keys[dialect])
    gateway.write_config()
    revoked_at = time.monotonic()
    closed_at = assert_told(client, dialect, code)
    assert closed_at - revoked_at < ENDED_WITHIN
    told = provider.next(CLOSE, TEXT)
    assert told.opcode == CLOSE or b"cancel" in told.payload, "the provider is told as well"
    provider.leave()
    kept = gateway.records.one()
    codes = CHANNEL_CODES if code in CHANNEL_CODES else {code}
    assert kept["status"] == 101 and kept["error_code"] in codes, kept
    if dialect != "openai" or code not in CHANNEL_CODES:
        bystander.text("still here")
        assert their_provider.message() == (TEXT, b"still here"), "nobody else is disturbed"
        bystander.assert_open()
    bystander.leave()


def test_a_change_that_concerns_nobody_here_cuts_nobody(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, OPENAI)
    gateway.config["users"]["newcomer"] = {"proxy_key": canary("pk-newcomer"), "channels": ["openai"]}
    gateway.config["users"]["openai"]["department"] = "Elsewhere"
    gateway.keys["newcomer"] = gateway.config["users"]["newcomer"]["proxy_key"]
    gateway.write_config()
    until(lambda: http1.call(gateway.base_url, "GET", "/v1/x", gateway.bearer("newcomer")).status != 401, 5, "reloaded")
    assert client.is_silent(1.2), "more than one look at the live sockets"
    client.assert_open()
    client.text("hello")
    assert provider.message() == (TEXT, b"hello")


# --- quotas -----------------------------------------------------------------------------------------------------------


def limited(serve, upstream_url, quota, users=("openai",)):
    def change(config):
        for user in users:
            config["users"][user]["quotas"] = [quota]

    return serve(upstream_url, change=change, system={"prices": PRICES})


@pytest.mark.parametrize("unit,amount", [("tokens", 100), ("cost", 0.0001)])
def test_a_quota_that_is_used_up_ends_the_socket(serve, upstreams, sockets, unit, amount):
    gateway = limited(serve, upstreams(sockets).url, {"unit": unit, "per": "total", "amount": amount})
    client, provider = opened(gateway, sockets, OPENAI)
    provider.say(**response_done(realtime_usage(30, 10)))
    assert client.hear()["type"] == "response.done"
    provider.say(**response_done(realtime_usage(60, 20)))
    assert client.hear()["type"] == "response.done"
    used_up_at = time.monotonic()
    assert assert_told(client, "openai", "quota_exceeded") - used_up_at < ENDED_WITHIN
    provider.closing()
    kept = gateway.records.one()
    assert kept["error_code"] == "quota_exceeded" and kept["usage"]["input"] == 90 and kept["usage"]["output"] == 30
    answer = refusal(gateway, OPENAI)
    assert answer.status == 429 and answer.code() == "quota_exceeded"


def test_a_quota_is_used_up_by_tasks_and_turns_as_well(serve, upstreams, sockets):
    gateway = limited(serve, upstreams(sockets).url, {"unit": "tokens", "per": "total", "amount": 20}, ["gemini"])
    client, provider = opened(gateway, sockets, GEMINI, "gemini")
    begin(client, provider, "gemini")
    provider.binary(as_binary(turn(20, 5)))
    assert client.hear()["usageMetadata"]
    assert_told(client, "gemini", "quota_exceeded")
    provider.closing()


def test_a_soft_quota_ends_nothing(serve, upstreams, sockets):
    gateway = limited(serve, upstreams(sockets).url, {"unit": "tokens", "per": "total", "amount": 10, "soft": True})
    client, provider = opened(gateway, sockets, OPENAI)
    provider.say(**response_done(realtime_usage(30, 10)))
    assert client.hear()["type"] == "response.done"
    assert client.is_silent(1.2)
    client.assert_open()


def test_what_two_sockets_use_together_ends_both(serve, upstreams, sockets):
    gateway = limited(serve, upstreams(sockets).url, {"unit": "tokens", "per": "total", "amount": 100})
    first, first_provider = opened(gateway, sockets, OPENAI)
    second, second_provider = opened(gateway, sockets, OPENAI)
    for client, provider in ((first, first_provider), (second, second_provider)):
        provider.say(**response_done(realtime_usage(40, 15)))
        assert client.hear()["type"] == "response.done"
    for client, provider in ((first, first_provider), (second, second_provider)):
        assert_told(client, "openai", "quota_exceeded")
        provider.closing()


# --- limits and deadlines ---------------------------------------------------------------------------------------------


def test_sockets_count_as_calls_at_once(serve, upstreams, sockets):
    gateway = serve(
        upstreams(sockets).url, change=lambda config: config["users"]["openai"].update(limits={"concurrent": 2})
    )
    first, first_provider = opened(gateway, sockets, OPENAI)
    second, _ = opened(gateway, sockets, OPENAI)
    answer = refusal(gateway, OPENAI)
    assert answer.status == 429 and answer.code() == "too_many_concurrent"
    first.close()
    first_provider.closing()
    first.next(CLOSE)
    third = until(lambda: try_connect(gateway), 5, "the place of the first is free again")
    for peer in (second, third):
        peer.leave()


def try_connect(gateway):
    try:
        return connect(gateway, OPENAI)
    except AssertionError:
        return None


def test_a_socket_on_which_nobody_speaks_is_ended(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"timeouts": {"idle": "1500ms"}}})
    client, provider = opened(gateway, sockets, OPENAI)
    for _ in range(3):
        assert client.is_silent(0.6)
        client.text("I am here")
        assert provider.message() == (TEXT, b"I am here"), "words of either side keep it open"
    began = time.monotonic()
    event = client.hear()
    assert 1.2 < time.monotonic() - began < 4
    assert event["type"] == "error" and "idle" in event["error"]["message"]
    assert client.closing().code == 1008
    provider.closing()
    kept = gateway.records.one()
    assert (kept["status"], kept["end"], kept["error_code"]) == (101, "timeout", "upstream_timeout")


def test_a_session_has_its_time(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"timeouts": {"total": "700ms"}}})
    client, provider = opened(gateway, sockets, OPENAI)
    began = time.monotonic()
    provider.say(**response_done(realtime_usage(10, 5)))
    assert client.hear()["type"] == "response.done"
    event = client.hear()
    assert event["type"] == "error" and event["error"]["code"] and "total" in event["error"]["message"]
    assert client.closing().code == 1008
    assert 0.5 < time.monotonic() - began < 4
    provider.closing()
    kept = gateway.records.one()
    assert kept["end"] == "timeout" and kept["usage"]["input"] == 10


def test_a_running_response_is_cancelled_when_the_key_goes_and_what_it_used_is_counted(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(type="response.create")
    provider.hear()
    provider.say(**response_created())
    client.hear()
    disable_user(gateway.config, "openai", None)
    gateway.write_config()
    assert_told(client, "openai", "user_disabled")
    assert provider.hear()["type"] == "response.cancel"
    provider.say(**response_done(realtime_usage(10, 5), "resp_open", "cancelled"))
    provider.closing()
    kept = gateway.records.one()
    assert kept["error_code"] == "user_disabled" and kept["usage"]["input"] == 10
