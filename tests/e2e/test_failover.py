"""Failover as a user of the openai package sees it: two channels fail, one clean answer arrives."""

import pytest

from harness import http1
from harness.gateway import Gateway
from harness.sdk import CLIENTS, Sdk
from harness.upstream import RawUpstream

CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}


def failing(status, body, headers=()):
    """An upstream that gives every call the same error."""
    lines = [f"HTTP/1.1 {status} Status", "content-type: application/json", f"content-length: {len(body)}", *headers]
    answer = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
    return RawUpstream(lambda request, connection: connection.sendall(answer))


@pytest.fixture(scope="module")
def broken():
    """A channel that is rate limited and one that is down, as URLs by name."""
    limited = failing(429, '{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', ["retry-after: 3600"])
    down = failing(500, '{"error":{"message":"broken","code":"server_error"}}')
    yield {"limited": limited, "down": down}
    limited.stop()
    down.stop()


def three_channels(broken, demo_upstream, failover):
    """One user, three channels in this order: rate limited, down, well."""

    def change(config):
        urls = {"limited": broken["limited"].url, "down": broken["down"].url, "well": demo_upstream.url}
        config["channels"] = {
            name: {
                "kind": "openai",
                "base_url": url,
                "api_key": demo_upstream.real_key,
                "priority": rank,
                "models": [{"fast": f"demo-{name}"}, "demo-other"],
            }
            for rank, (name, url) in enumerate(urls.items())
        }
        for user in config["users"].values():
            user["channels"] = list(urls)
        config["system"]["failover"] = failover

    return change


@pytest.mark.parametrize("client", CLIENTS)
def test_the_sdk_sees_one_clean_answer(client, broken, demo_upstream, tmp_path):
    change = three_channels(broken, demo_upstream, failover=True)
    gateway = Gateway(tmp_path, demo_upstream.url, demo_upstream.real_key, change=change)
    sdk = Sdk(gateway, client, "failover_sdk", "everyone")
    for scenario in ("chat", "chat_stream"):
        saw = sdk.saw(scenario)
        assert "Say hello to Zhang San 张三" in saw["text"]
        assert saw["models"] == ["fast"], "the name the caller asked for, in every chunk"
        (record,) = sdk.records[scenario]
        assert (record["status"], record["end"], record["channel_id"]) == (200, "complete", "well")
        assert (record["model_asked"], record["model_served"]) == ("fast", "demo-well")
        # The rate-limited channel is left alone for the hour it asked for, so only the first call tries it.
        tried = [(attempt["channel_id"], attempt["status"]) for attempt in record["attempts"]]
        first = [("limited", 429)] if scenario == "chat" else []
        assert tried == [*first, ("down", 500), ("well", 200)]
        assert all(attempt["ms"] >= 0 for attempt in record["attempts"])
    assert sdk.saw("models")["models"] == ["demo-other", "fast"], "exactly what this key may use"
    assert sdk.saw("one_model")["models"] == ["fast"]
    sdk.assert_no_surplus()


def test_without_failover_nothing_reaches_another_channel(serve, broken, demo_upstream):
    gateway = serve(demo_upstream.url, change=three_channels(broken, demo_upstream, failover=False))
    seen = len(broken["down"].requests)
    answers = [http1.call(gateway.base_url, "POST", "/v1/chat/completions", gateway.bearer("everyone"), CHAT)
               for _ in range(20)]
    assert {answer.status for answer in answers} == {429}
    assert answers[0].code() == "rate_limit_exceeded", "the upstream's own error"
    assert answers[1].code() == "rate_limited" and answers[1].headers["x-should-retry"] == "false"
    assert 3590 <= int(answers[1].headers["retry-after"]) <= 3600, "the true wait"
    assert len(broken["down"].requests) == seen
    assert {record["channel_id"] for record in gateway.finish()} == {"limited", None}
