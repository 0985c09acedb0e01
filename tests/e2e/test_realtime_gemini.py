"""The google-genai packages of Python and JavaScript, old and new, unmodified: the Live API."""

import pytest

from harness.sdk import CLIENTS
from harness.websocket_sdk import added_up, inside, refused_record, run, socket_record, used


@pytest.fixture(scope="module", params=CLIENTS)
def sdk(request, tmp_path_factory, demo_upstream):
    sdk = run(
        tmp_path_factory.mktemp("realtime-gemini"), demo_upstream, request.param, "google_genai_live_sdk", "gemini"
    )
    sdk.client = request.param
    return sdk


def having(sdk, scenario):
    """Skips what a client has not."""
    if not any(result["scenario"] == scenario for result in sdk.results):
        pytest.skip(f"{sdk.client} has no {scenario}")
    return sdk.saw(scenario)


def record(sdk, scenario, **expected):
    expected = {"endpoint": "/ws/{service}", "model_asked": "demo-live", "model_served": "demo-live", **expected}
    return socket_record(sdk, scenario, "gemini", "gemini", **expected)


def of_sound(side):
    """Reads how many tokens of one side were sound."""

    def read(usage):
        parts = usage.get(f"{side}_tokens_details") or []
        return sum(part.get("token_count") or 0 for part in parts if part["modality"] == "AUDIO")

    return read


def live_usage(usages):
    """Usage by turn, in the words of the record: what is billed as output is the answer and the thoughts."""
    return added_up(
        usages,
        input=lambda usage: inside("prompt_token_count")(usage) + inside("tool_use_prompt_token_count")(usage),
        output=lambda usage: inside("response_token_count")(usage) + inside("thoughts_token_count")(usage),
        cached=inside("cached_content_token_count"),
        reasoning=inside("thoughts_token_count"),
        audio_input=of_sound("prompt"),
        audio_output=of_sound("response"),
    )


def assert_same(kept, usages):
    """JavaScript's scripts do not report modalities."""
    seen = live_usage(usages)
    have = used(kept)
    if not any("response_tokens_details" in usage for usage in usages):
        have = {name: count for name, count in have.items() if not name.startswith("audio")}
    assert have == seen


def test_turns_are_taken_and_counted_each(sdk):
    saw = sdk.saw("live")
    assert "Say hello to Zhang San 张三" in saw["texts"][0] and "goodbye" in saw["texts"][1]
    assert_same(record(sdk, "live"), saw["usages"])


def test_the_answer_may_be_sound(sdk):
    saw = sdk.saw("live_sound")
    assert saw["sound"] > 1000
    kept = record(sdk, "live_sound")
    assert_same(kept, saw["usages"])
    assert kept["usage"]["audio_output"] > 0


def test_a_base_url_with_a_slash_at_its_end_works(sdk):
    saw = having(sdk, "live_with_two_slashes")
    assert_same(record(sdk, "live_with_two_slashes"), saw["usages"])


def test_sound_may_be_streamed_in(sdk):
    saw = having(sdk, "live_realtime_input")
    assert_same(record(sdk, "live_realtime_input"), saw["usages"])


@pytest.mark.parametrize(
    "scenario,status,code", [("wrong_key", 401, "invalid_credential"), ("disabled_user", 403, "user_disabled")]
)
def test_a_refusal_is_an_answer_before_101(sdk, scenario, status, code):
    assert having(sdk, scenario)["status"] == status
    assert refused_record(sdk, scenario, status, code)["dialect"] == "gemini"


def test_a_forbidden_model_closes_the_session_and_says_why(sdk):
    saw = sdk.saw("forbidden_model")
    assert saw["close"] == 1008 and "forbidden" in (saw.get("message") or saw.get("reason")), saw
    (kept,) = sdk.records["forbidden_model"]
    assert (kept["status"], kept["error_code"]) == (101, "model_not_allowed")


def test_every_socket_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
