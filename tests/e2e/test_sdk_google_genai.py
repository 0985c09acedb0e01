"""The google-genai packages of Python and JavaScript, old and new, with their default API versions."""

import pytest

from harness.gateway import Gateway
from harness.sdk import CLIENTS, Sdk, counted, numbers


@pytest.fixture(scope="module", params=CLIENTS)
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("gemini"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "google_genai_sdk", "gemini")


def record(sdk, scenario, **expected):
    return sdk.record(scenario, "gemini", "gemini", **expected)


def assert_same_usage(kept, usage):
    """What is billed as output is the answer and the thoughts."""
    thoughts = usage.get("thoughts_token_count") or 0
    assert counted(kept) == numbers(
        input=usage["prompt_token_count"],
        output=usage["candidates_token_count"] + thoughts,
        cached=usage.get("cached_content_token_count"),
        reasoning=thoughts,
    )


def test_content_is_generated_and_recorded(sdk):
    saw = sdk.saw("generate")
    assert "Say hello to Zhang San 张三" in saw["text"]
    assert_same_usage(record(sdk, "generate", model="demo", protocol="http"), saw["usage"])


def test_streamed_content_has_the_same_text_and_usage(sdk):
    saw = sdk.saw("generate_stream")
    assert saw["text"] == sdk.saw("generate")["text"]
    assert_same_usage(record(sdk, "generate_stream", model="demo", protocol="sse"), saw["usage"])


def test_tokens_are_counted(sdk):
    assert sdk.saw("count_tokens")["total"] > 0
    record(sdk, "count_tokens", model_asked="demo")


def test_texts_are_embedded(sdk):
    lengths = sdk.saw("embed")["lengths"]
    assert len(set(lengths)) == 1 and lengths[0] > 1
    record(sdk, "embed", model_asked="demo-embedding")


def test_an_unknown_key_is_refused_in_words_the_sdk_understands(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["status"] == 401 and "Invalid proxy key" in saw["message"] and "UNAUTHENTICATED" in saw["message"]
    (kept,) = sdk.records["wrong_key"]
    assert kept["dialect"] == "gemini" and kept["error_code"] == "invalid_credential"


def test_a_disabled_user_is_refused(sdk):
    saw = sdk.saw("disabled_user")
    assert saw["status"] == 403 and "PERMISSION_DENIED" in saw["message"]


def test_an_upstreams_own_refusal_passes_through(sdk):
    saw = sdk.saw("upstream_refuses")
    assert saw["status"] == 429 and "RESOURCE_EXHAUSTED" in saw["message"]


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
