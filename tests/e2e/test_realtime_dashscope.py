"""The dashscope package's sockets, 1.x and 2.x, unmodified: CosyVoice, Paraformer and Qwen-Omni."""

import pytest

from harness.websocket_sdk import realtime_usage, run, socket_record, used


@pytest.fixture(scope="module", params=["python-new", "python-old"])
def sdk(request, tmp_path_factory, demo_upstream):
    directory = tmp_path_factory.mktemp("realtime-dashscope")
    sdk = run(directory, demo_upstream, request.param, "dashscope_realtime_sdk", "dashscope", secure=False)
    sdk.client = request.param
    return sdk


def record(sdk, scenario, **expected):
    return socket_record(sdk, scenario, "dashscope", "dashscope", **{"endpoint": "/api-ws/v1/inference", **expected})


@pytest.mark.parametrize("scenario", ["speech", "speech_by_pieces"])
def test_speech_is_made_and_its_characters_counted(sdk, scenario):
    saw = sdk.saw(scenario)
    assert saw["bytes"] > 1000 and saw["usage"]["characters"] > 0
    kept = record(sdk, scenario, model_asked="demo-cosyvoice", model_served="demo-cosyvoice")
    assert used(kept) == {"characters": saw["usage"]["characters"]}
    assert kept["response_bytes"] > saw["bytes"]


def test_speech_is_counted_the_same_however_its_text_arrives(sdk):
    assert sdk.saw("speech")["usage"] == sdk.saw("speech_by_pieces")["usage"]


def test_sound_is_recognized_and_its_seconds_counted(sdk):
    saw = sdk.saw("recognition")
    assert saw["sentences"][-1]["text"] and saw["usage"]["duration"] > 0
    assert used(record(sdk, "recognition", model_asked="demo-paraformer")) == {"seconds": saw["usage"]["duration"]}


def test_a_file_is_recognized(sdk):
    saw = sdk.saw("recognition_of_a_file")
    assert saw["status"] == 200 and saw["sentences"]
    assert used(record(sdk, "recognition_of_a_file"))["seconds"] == saw["usages"][-1]["duration"]


def test_qwen_omni_converses_in_sound(sdk):
    saw = sdk.saw("omni")
    assert saw["sound"] > 1000 and len(saw["usages"]) == 2
    kept = record(sdk, "omni", endpoint="/api-ws/v1/realtime", model_asked="demo-omni", model_served="demo-omni")
    assert used(kept) == realtime_usage(saw["usages"])


def test_two_tasks_at_once_share_a_socket_and_are_counted_both(sdk):
    if sdk.client == "python-old":
        pytest.skip("one task for each socket")
    saw = sdk.saw("two_tasks_at_once")
    assert saw["sound"] > 1000 and set(saw["usages"]) == {"speech", "recognition"}
    kept = record(sdk, "two_tasks_at_once")
    counted = {"characters": saw["usages"]["speech"]["characters"], "seconds": saw["usages"]["recognition"]["duration"]}
    assert used(kept) == counted


def test_a_forbidden_model_is_a_failed_task(sdk):
    error = sdk.saw("forbidden_model")["error"]
    assert error["code"] == "model_not_allowed" and "forbidden" in error["message"], error
    (kept,) = sdk.records["forbidden_model"]
    assert kept["status"] == 101


@pytest.mark.parametrize(
    "scenario,status,code", [("wrong_key", 401, "invalid_credential"), ("disabled_user", 403, "user_disabled")]
)
def test_a_refusal_is_an_answer_before_101(sdk, scenario, status, code):
    assert sdk.saw(scenario)["error"], "the SDK tells its callback"
    (kept,) = sdk.records[scenario]
    assert (kept["status"], kept["error_code"], kept["protocol"]) == (status, code, "http")


def test_every_socket_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
