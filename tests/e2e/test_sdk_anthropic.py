"""The anthropic packages of Python and JavaScript, old (`x-api-key`) and new (bearer token), unmodified."""

import pytest

from harness.gateway import Gateway
from harness.sdk import CLIENTS, Sdk, counted, numbers


@pytest.fixture(scope="module", params=CLIENTS)
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("anthropic"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "anthropic_sdk", "anthropic")


def record(sdk, scenario, **expected):
    return sdk.record(scenario, "anthropic", "anthropic", **expected)


def assert_same_usage(kept, usage):
    """This provider counts cached tokens beside its input tokens; the record's input is the whole."""
    written, read = usage.get("cache_creation_input_tokens") or 0, usage.get("cache_read_input_tokens") or 0
    assert counted(kept) == numbers(
        input=usage["input_tokens"] + written + read,
        output=usage["output_tokens"],
        cached=read,
        cache_write=written,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens"),
    )


def test_a_message_is_answered_and_recorded(sdk):
    saw = sdk.saw("messages")
    assert "Say hello to Zhang San 张三" in saw["text"] and saw["stop"] == "end_turn"
    kept = record(sdk, "messages", model="demo", endpoint="/v1/messages", protocol="http")
    assert_same_usage(kept, saw["usage"])


def test_a_streamed_message_has_the_same_text_and_usage(sdk):
    saw = sdk.saw("messages_stream")
    assert saw["text"] == sdk.saw("messages")["text"] and saw["stop"] == "end_turn"
    kept = record(sdk, "messages_stream", model="demo", endpoint="/v1/messages", protocol="sse")
    assert_same_usage(kept, saw["usage"])


def test_every_event_of_a_stream_keeps_its_name(sdk):
    events = [event for event in sdk.saw("raw_events")["events"] if event != "ping"]
    assert events[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("scenario", ["tools", "tools_stream"])
def test_a_tool_call_comes_through(sdk, scenario):
    saw = sdk.saw(scenario)
    assert saw["name"] == "get_weather" and saw["stop"] == "tool_use" and "city" in saw["input"]
    assert_same_usage(record(sdk, scenario), saw["usage"])


def test_tokens_are_counted(sdk):
    assert sdk.saw("count_tokens")["input_tokens"] > 0
    kept = record(sdk, "count_tokens", endpoint="/v1/messages/count_tokens")
    assert not kept["usage"] or not kept["usage"].get("output"), "counting is free"


def test_an_unknown_key_raises_the_sdks_authentication_error(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["error"] == "AuthenticationError" and saw["status"] == 401
    assert "authentication_error" in saw["message"] and "Invalid proxy key" in saw["message"]
    (kept,) = sdk.records["wrong_key"]
    assert kept["dialect"] == "anthropic" and kept["error_code"] == "invalid_credential" and kept["attempts"] == []


def test_a_disabled_user_raises_the_sdks_permission_error(sdk):
    saw = sdk.saw("disabled_user")
    assert saw["error"] == "PermissionDeniedError" and saw["status"] == 403 and "permission_error" in saw["message"]


def test_an_upstreams_own_refusal_passes_through(sdk):
    saw = sdk.saw("upstream_refuses")
    assert saw["error"] == "RateLimitError" and saw["status"] == 429
    record(sdk, "upstream_refuses", status=429, error_code=None)


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
