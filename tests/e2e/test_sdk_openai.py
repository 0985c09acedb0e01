"""The openai packages of Python and JavaScript, old and new, unmodified: every API a gateway must carry."""

import json

import pytest

from harness.gateway import Gateway
from harness.sdk import CLIENTS, Sdk, counted, openai_usage


@pytest.fixture(scope="module", params=CLIENTS)
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("openai"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "openai_sdk", "openai")


def record(sdk, scenario, endpoint, **expected):
    return sdk.record(scenario, "openai", "openai", endpoint=endpoint, **expected)


def test_a_chat_is_answered_and_recorded(sdk):
    saw = sdk.saw("chat")
    assert "Say hello to Zhang San 张三" in saw["text"]
    assert saw["finish"] == "stop" and saw["model"] == "demo"
    kept = record(sdk, "chat", "/v1/chat/completions", model="demo", protocol="http")
    assert kept["model_asked"] == kept["model_served"] == "demo"
    assert counted(kept) == openai_usage(saw["usage"])
    assert saw["request_id"] == kept["id"], "the SDK shows the id under which the call is recorded"


def test_a_stream_without_usage_stays_without_it_but_is_metered(sdk):
    saw = sdk.saw("chat_stream")
    assert "Say hello to Zhang San 张三" in saw["text"] and saw["finish"] == "stop"
    assert saw["without_choices"] == 0 and saw["usage"] is None, "the usage chunk we asked for must be hidden"
    kept = record(sdk, "chat_stream", "/v1/chat/completions", model="demo", protocol="sse")
    assert counted(kept) == openai_usage(sdk.saw("chat")["usage"])
    assert kept["first_byte_ms"] <= kept["duration_ms"]


def test_a_stream_with_usage_keeps_it(sdk):
    saw = sdk.saw("chat_stream_with_usage")
    assert saw["text"] == sdk.saw("chat_stream")["text"]
    assert saw["without_choices"] == 1
    assert counted(record(sdk, "chat_stream_with_usage", "/v1/chat/completions")) == openai_usage(saw["usage"])


def test_a_tool_call_comes_through(sdk):
    saw = sdk.saw("tools")
    assert saw["name"] == "get_weather" and saw["finish"] == "tool_calls"
    assert "city" in json.loads(saw["arguments"])
    assert counted(record(sdk, "tools", "/v1/chat/completions")) == openai_usage(saw["usage"])


def test_a_streamed_tool_call_comes_through_whole(sdk):
    saw = sdk.saw("tools_stream")
    assert saw["name"] == "get_weather" and saw["finish"] == "tool_calls"
    assert saw["arguments"] == sdk.saw("tools")["arguments"]
    assert counted(record(sdk, "tools_stream", "/v1/chat/completions"))["output"] > 0


def test_a_response_is_answered_and_recorded(sdk):
    saw = sdk.saw("responses")
    assert "Say hello" in saw["text"] and saw["status"] == "completed"
    assert counted(record(sdk, "responses", "/v1/responses", protocol="http")) == openai_usage(saw["usage"])


def test_a_streamed_response_keeps_its_events_and_usage(sdk):
    saw = sdk.saw("responses_stream")
    assert saw["text"] == sdk.saw("responses")["text"]
    assert saw["events"][0] == "response.created" and saw["events"][-1] == "response.completed"
    assert counted(record(sdk, "responses_stream", "/v1/responses", protocol="sse")) == openai_usage(saw["usage"])


@pytest.mark.parametrize("scenario", ["embeddings", "embeddings_float"])
def test_embeddings_arrive_as_numbers_in_either_encoding(sdk, scenario):
    saw = sdk.saw(scenario)
    first, second = saw["lengths"]
    assert first == second > 1 and saw["numbers"]
    assert counted(record(sdk, scenario, "/v1/embeddings")) == openai_usage(saw["usage"])


def test_an_image_is_made_and_its_tokens_counted(sdk):
    saw = sdk.saw("images")
    assert saw["pictures"] == [True]
    kept = record(sdk, "images", "/v1/images/generations", model_asked="demo-image")
    if saw["usage"]:
        assert counted(kept) == openai_usage(saw["usage"])


def test_speech_comes_back_as_sound(sdk):
    saw = sdk.saw("speech")
    kept = record(sdk, "speech", "/v1/audio/speech", model_asked="demo-speech")
    assert saw["bytes"] == kept["response_bytes"] > 100


def test_a_recording_is_transcribed(sdk):
    saw = sdk.saw("transcription")
    assert saw["text"]
    kept = record(sdk, "transcription", "/v1/audio/transcriptions", model_asked="demo-transcribe")
    assert kept["request_bytes"] > 4000 and kept["usage_source"] == "provider"
    if saw["usage"] and saw["usage"]["type"] == "duration":
        assert kept["usage"]["seconds"] == saw["usage"]["seconds"]
    elif saw["usage"]:
        assert kept["usage"]["input"] == saw["usage"]["input_tokens"]
        assert kept["usage"]["output"] == saw["usage"]["output_tokens"]


def test_models_are_listed(sdk):
    assert sdk.saw("models")["ids"]
    assert record(sdk, "models", "/v1/models", method="GET")["usage_source"] == "none"


def test_an_unknown_key_raises_the_sdks_authentication_error(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["error"] == "AuthenticationError" and saw["status"] == 401 and saw["code"] == "invalid_credential"
    assert "Invalid proxy key" in saw["message"]
    (kept,) = sdk.records["wrong_key"]
    assert kept["user_id"] is None and kept["channel_id"] is None and kept["attempts"] == []
    assert kept["status"] == 401 and kept["error_code"] == "invalid_credential" and kept["end"] == "complete"


def test_a_disabled_user_raises_the_sdks_permission_error(sdk):
    saw = sdk.saw("disabled_user")
    assert saw["error"] == "PermissionDeniedError" and saw["status"] == 403 and saw["code"] == "user_disabled"
    (kept,) = sdk.records["disabled_user"]
    assert kept["user_id"] == "leaver" and kept["status"] == 403 and kept["attempts"] == []


def test_an_upstreams_own_refusal_passes_through(sdk):
    saw = sdk.saw("upstream_refuses")
    assert saw["error"] == "RateLimitError" and saw["status"] == 429
    kept = record(sdk, "upstream_refuses", "/v1/chat/completions", status=429, error_code=None)
    assert kept["model_asked"] == "demo-error-429" and kept["usage_source"] == "none"
    assert [attempt["status"] for attempt in kept["attempts"]] == [429]


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
