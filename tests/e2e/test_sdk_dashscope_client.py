"""The dashscope 2.x `Client`, which speaks its native protocol, OpenAI's and Anthropic's to one channel."""

import pytest

from harness.gateway import Gateway
from harness.sdk import Sdk, counted


@pytest.fixture(scope="module")
def sdk(tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("dashscope-client"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, "python-new", "dashscope_client", "dashscope")


@pytest.mark.parametrize("protocol,dialect", [("native", "dashscope"), ("openai", "openai"), ("anthropic", "anthropic")])
def test_each_protocol_gets_its_answer_and_its_stream(sdk, protocol, dialect):
    whole, streamed = sdk.saw(protocol), sdk.saw(f"{protocol}_stream")
    assert "Say hello to Zhang San 张三" in whole["text"] and streamed["text"] == whole["text"]
    kept = counted(sdk.record(protocol, "dashscope", dialect, model="demo", protocol="http"))
    assert counted(sdk.record(f"{protocol}_stream", "dashscope", dialect, model="demo", protocol="sse")) == kept
    assert kept["output"] == whole["usage"]["output_tokens"]


def test_refusals_raise_the_sdks_own_errors(sdk):
    wrong, disabled, refused = sdk.saw("wrong_key"), sdk.saw("disabled_user"), sdk.saw("upstream_refuses")
    assert (wrong["error"], wrong["status"], wrong["code"]) == ("AuthenticationError", 401, "invalid_credential")
    assert (disabled["error"], disabled["status"], disabled["code"]) == ("PermissionDeniedError", 403, "user_disabled")
    assert (refused["error"], refused["status"]) == ("RateLimitError", 429)


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
