"""The config file changes while the gateway runs: at once, without cutting a call, and never by half."""

import json

import pytest

from harness import http1
from harness.polling import until
from harness.secrets import canary
from harness.upstream import CHAT, HeldStream, plain

RELOADED_WITHIN = 2


def refusal(gateway):
    """The code of the refusal, or None while calls still pass."""
    answer = http1.chat(gateway)
    return None if answer.status == 200 else (answer.status, answer.code())


def disable_key(gateway):
    gateway.config["users"]["openai"].pop("proxy_key")
    gateway.config["users"]["openai"]["proxy_keys"] = [
        {"id": "openai", "key": gateway.keys["openai"], "status": "disabled"}
    ]


def remove_key(gateway):
    gateway.config["users"]["openai"]["proxy_key"] = canary("another")


def disable_user(gateway):
    gateway.config["users"]["openai"]["status"] = "disabled"


@pytest.mark.parametrize(
    "revoke,expected",
    [
        (disable_key, (403, "key_disabled")),
        (remove_key, (401, "invalid_credential")),
        (disable_user, (403, "user_disabled")),
    ],
)
def test_a_revoked_key_is_refused_within_two_seconds_while_its_open_stream_runs_on(serve, upstreams, revoke, expected):
    stream = HeldStream()
    answers = iter([stream])
    ordinary = plain(CHAT)
    upstream = upstreams(lambda request, connection: next(answers, ordinary)(request, connection))
    gateway = serve(upstream.url)
    running = http1.OpenStream(gateway, stream_options={"include_usage": True})
    stream.event("before")
    head = running.head()
    assert head.status == 200
    running.read_until(b"before")
    assert refusal(gateway) is None

    revoke(gateway)
    gateway.write_config()
    assert until(lambda: refusal(gateway), RELOADED_WITHIN, "the revoked key is refused") == expected

    stream.event("after the revocation")
    running.read_until(b"after the revocation")
    stream.finish()
    assert b"[DONE]" in running.rest()
    running.close()
    opened_first = gateway.records.of(head.headers["x-request-id"])
    assert (opened_first["status"], opened_first["end"]) == (200, "complete")


def test_a_file_saved_in_place_is_noticed_too(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    assert refusal(gateway) is None
    disable_user(gateway)
    gateway.config_path.write_text(json.dumps(gateway.config))
    assert until(lambda: refusal(gateway), RELOADED_WITHIN, "the change is noticed") == (403, "user_disabled")


def test_a_broken_file_keeps_the_last_good_state_and_says_so(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    good = gateway.config_path.read_text()
    disable_user(gateway)
    gateway.config["channels"]["openai"]["base_urll"] = "http://127.0.0.1:1"
    gateway.write_config()
    until(lambda: "base_urll" in gateway.process.log(), 5, "the log names the problem")
    assert refusal(gateway) is None, "neither half of the broken file is in force"

    newcomer = canary("pk-newcomer")
    config = json.loads(good)
    config["users"]["newcomer"] = {"proxy_key": newcomer, "channels": ["openai"]}
    gateway.config = config
    gateway.write_config()
    gateway.keys["newcomer"] = newcomer
    until(lambda: http1.chat(gateway, "newcomer").status == 200, 5, "the repaired file is in force")


def test_a_deleted_file_keeps_the_last_good_state(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system={"config_reload_interval": "200ms"})
    gateway.config_path.unlink()
    until(lambda: gateway.config_path.name in gateway.process.log(), 5, "the log names the missing file")
    assert refusal(gateway) is None
