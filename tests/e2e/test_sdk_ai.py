"""The AI SDK 5 and 6 through each provider that reaches us: OpenAI chat and Responses, Anthropic, OpenAI-compatible.

One key, mapped to every channel: the path alone decides which channel serves the call.
"""

import pytest

from harness.gateway import Gateway
from harness.sdk import Sdk, counted

CHANNELS = {"chat": "openai", "responses": "openai", "anthropic": "anthropic", "compatible": "openai"}


@pytest.fixture(scope="module", params=["node-new", "node-old"])
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("ai"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "ai_sdk", "everyone")


@pytest.mark.parametrize("provider", CHANNELS)
def test_text_is_generated_and_metered(sdk, provider):
    saw = sdk.saw(provider)
    assert "Say hello to Zhang San 张三" in saw["text"]
    kept = counted(sdk.record(provider, CHANNELS[provider], CHANNELS[provider], model="demo"))
    assert kept["output"] == saw["output"] > 0 and saw["input"] > 0


@pytest.mark.parametrize("provider", CHANNELS)
def test_text_is_streamed_and_metered(sdk, provider):
    saw = sdk.saw(f"{provider}_stream")
    assert saw["text"] == sdk.saw(provider)["text"]
    streamed = sdk.record(f"{provider}_stream", CHANNELS[provider], CHANNELS[provider], model="demo", protocol="sse")
    whole = sdk.record(provider, CHANNELS[provider], CHANNELS[provider])
    assert counted(streamed) == counted(whole)


def test_an_unknown_key_is_refused(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["status"] == 401 and "Invalid proxy key" in saw["message"]


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
