"""The dashscope package's native interface, 1.x and 2.x: it never raises, it returns a status and a code."""

import pytest

from harness.gateway import Gateway
from harness.sdk import Sdk, check_record, counted, numbers


@pytest.fixture(scope="module", params=["python-new", "python-old"])
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("dashscope"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "dashscope_sdk", "dashscope")


def record(sdk, scenario, **expected):
    return sdk.record(scenario, "dashscope", "dashscope", **expected)


def reported(usage):
    return numbers(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens"),
    )


def test_a_generation_is_answered_and_recorded(sdk):
    saw = sdk.saw("generation")
    assert saw["status"] == 200 and "Say hello to Zhang San 张三" in saw["text"] and saw["request_id"]
    assert counted(record(sdk, "generation", model="demo", protocol="http")) == reported(saw["usage"])


def test_a_stream_repeats_the_text_so_far(sdk):
    saw = sdk.saw("generation_stream")
    assert saw["text"] == sdk.saw("generation")["text"] and saw["text"].startswith(saw["first"])
    assert counted(record(sdk, "generation_stream", model="demo", protocol="sse")) == reported(saw["usage"])


def test_an_incremental_stream_adds_up_to_the_text(sdk):
    saw = sdk.saw("generation_stream_incremental")
    assert saw["text"] == sdk.saw("generation")["text"] != saw["first"]
    kept = record(sdk, "generation_stream_incremental", model="demo", protocol="sse")
    assert counted(kept) == reported(saw["usage"])


def test_a_picture_is_described(sdk):
    saw = sdk.saw("multimodal")
    assert saw["status"] == 200 and "What is this?" in saw["content"][0]["text"]
    assert counted(record(sdk, "multimodal", model="demo-vl")) == reported(saw["usage"])


def test_texts_are_embedded(sdk):
    saw = sdk.saw("embedding")
    assert saw["status"] == 200 and len(set(saw["lengths"])) == 1 and saw["lengths"][0] > 1
    assert record(sdk, "embedding", model_asked="demo-embedding")["usage"]["input"] == saw["usage"]["total_tokens"]


def test_an_image_task_is_submitted_polled_and_counted(sdk):
    saw = sdk.saw("image_task")
    assert saw["submitted"] in ("PENDING", "RUNNING") and saw["finished"] == "SUCCEEDED" and saw["pictures"] == 1
    submitted, *polls = [check_record(kept, "dashscope", "dashscope", "dashscope") for kept in sdk.records["image_task"]]
    assert submitted["model_asked"] == "demo-image" and submitted["usage_source"] == "none"
    assert [kept["method"] for kept in polls] == ["GET"] * len(polls)
    assert polls[-1]["usage"]["image"] == saw["usage"]["image_count"] == 1


def test_an_unknown_key_is_refused_in_words_the_sdk_understands(sdk):
    saw = sdk.saw("wrong_key")
    assert saw["status"] == 401 and saw["code"] == "invalid_credential" and "Invalid proxy key" in saw["message"]
    assert saw["request_id"] == sdk.records["wrong_key"][0]["id"]


def test_a_disabled_user_is_refused(sdk):
    saw = sdk.saw("disabled_user")
    assert saw["status"] == 403 and saw["code"] == "user_disabled"


def test_an_upstreams_own_refusal_passes_through(sdk):
    saw = sdk.saw("upstream_refuses")
    assert saw["status"] == 429 and saw["code"].startswith("Throttling")


def test_every_call_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
