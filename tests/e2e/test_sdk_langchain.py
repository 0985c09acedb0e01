"""langchain-openai, which with a base URL of its own does not ask for usage in streams."""

import pytest

from harness.gateway import Gateway
from harness.sdk import Sdk, counted


@pytest.fixture(scope="module")
def sdk(tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("langchain"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, "python-new", "langchain_openai_sdk", "openai")


def metered(sdk, scenario):
    return counted(sdk.record(scenario, "openai", "openai", model="demo"))


def test_invoke_is_answered_and_metered(sdk):
    saw = sdk.saw("invoke")
    assert "Say hello to Zhang San 张三" in saw["text"]
    kept = metered(sdk, "invoke")
    assert (kept["input"], kept["output"]) == (saw["usage"]["input_tokens"], saw["usage"]["output_tokens"])


def test_a_stream_is_metered_though_the_caller_sees_no_usage(sdk):
    saw = sdk.saw("stream")
    assert saw["text"] == sdk.saw("invoke")["text"] and saw["usage"] is None
    assert metered(sdk, "stream") == metered(sdk, "invoke")


def test_a_stream_that_asks_for_usage_gets_it(sdk):
    saw = sdk.saw("stream_with_usage")
    assert saw["usage"]["output_tokens"] == metered(sdk, "stream_with_usage")["output"]


def test_documents_are_embedded(sdk):
    assert len(set(sdk.saw("embed")["lengths"])) == 1
    sdk.record("embed", "openai", "openai", model_asked="demo-embedding")


def test_an_unknown_key_raises_the_sdks_authentication_error(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["error"].endswith("AuthenticationError") and saw["code"] == "invalid_credential"


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
