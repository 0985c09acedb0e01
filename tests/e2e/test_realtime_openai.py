"""The openai packages of Python and JavaScript, old and new, unmodified: Realtime and Responses over sockets."""

import pytest

from harness.websocket_sdk import realtime_usage, refused_record, run, socket_record, used

# TLS is what 1.x and all of JavaScript insist on; 3.x speaks plain as well.
RUNS = ["python-new", "python-new plain", "python-old", "node-new", "node-old"]


@pytest.fixture(scope="module", params=RUNS)
def sdk(request, tmp_path_factory, demo_upstream):
    client, *plain = request.param.split()
    directory = tmp_path_factory.mktemp("realtime-openai")
    sdk = run(directory, demo_upstream, client, "openai_realtime_sdk", "openai", secure=not plain)
    sdk.client = client
    return sdk


def having(sdk, scenario):
    """Skips what a client has not."""
    if not any(result["scenario"] == scenario for result in sdk.results):
        pytest.skip(f"{sdk.client} has no {scenario}")
    return sdk.saw(scenario)


def record(sdk, scenario, **expected):
    return socket_record(sdk, scenario, "openai", "openai", **{"endpoint": "/v1/realtime", **expected})


def test_a_conversation_is_held_and_counted_to_the_token(sdk):
    saw = sdk.saw("realtime")
    assert saw["model"] == "demo-realtime" and saw["statuses"] == ["completed", "completed"]
    assert "Say hello to Zhang San 张三" in saw["texts"][0] and "goodbye" in saw["texts"][1]
    kept = record(sdk, "realtime")
    assert used(kept) == realtime_usage(saw["usages"]) and kept["usage"]["input"] > 0 < kept["usage"]["output"]
    assert (kept["model_asked"], kept["model_served"]) == ("demo-realtime", "demo-realtime")
    assert kept["request_bytes"] > 0 and kept["response_bytes"] > 0


def test_sound_goes_in_and_comes_out(sdk):
    saw = having(sdk, "realtime_sound")
    assert saw["sound"] > 1000 and "response.done" in saw["kinds"]
    kept = record(sdk, "realtime_sound")
    assert used(kept) == realtime_usage(saw["usages"])
    assert kept["usage"]["audio_input"] > 0 < kept["usage"]["audio_output"]


def test_the_synchronous_client_converses_as_well(sdk):
    saw = having(sdk, "realtime_synchronous")
    assert "Say hello to Zhang San 张三" in saw["texts"][0]
    assert used(record(sdk, "realtime_synchronous")) == realtime_usage(saw["usages"])


def test_a_browser_brings_its_key_as_a_subprotocol(sdk):
    saw = having(sdk, "browser")
    assert saw["protocol"] == "realtime", "what it offered, without the key"
    assert "Say hello to Zhang San 张三" in saw["texts"][0]
    assert used(record(sdk, "browser")) == realtime_usage(saw["usages"])


def test_azures_client_reaches_its_deployment(sdk):
    assert having(sdk, "azure")["first"] == "session.created"
    socket_record(sdk, "azure", "azure", "openai", user="azure", model_asked="demo-realtime")


def test_responses_over_a_socket_are_counted_one_by_one(sdk):
    saw = having(sdk, "responses")
    assert "Say hello to Zhang San 张三" in saw["texts"][0] and len(saw["usages"]) == 2
    kept = record(sdk, "responses", endpoint="/v1/responses", model_asked="demo")
    assert used(kept) == realtime_usage(saw["usages"])


def test_the_switched_off_beta_is_told_in_the_providers_words(sdk):
    saw = having(sdk, "beta")
    assert saw["first"] == "session.created" or (saw["first"], saw["code"]) == ("error", "beta_api_shape_disabled"), saw


def test_a_forbidden_model_is_an_error_event_and_the_conversation_goes_on(sdk):
    saw = sdk.saw("forbidden_model")
    assert saw["error"]["code"] == "model_not_allowed" and "forbidden" in saw["error"]["message"]
    assert "Say hello to Zhang San 张三" in saw["text"]
    assert used(record(sdk, "forbidden_model")) == realtime_usage(saw["usages"])


REFUSALS = {
    "wrong_key": (401, "invalid_credential"),
    "disabled_user": (403, "user_disabled"),
    "forbidden_handshake": (403, "model_not_allowed"),
}


@pytest.mark.parametrize("scenario", REFUSALS)
def test_a_refusal_is_an_answer_before_101(sdk, scenario):
    status, code = REFUSALS[scenario]
    saw = sdk.saw(scenario)
    assert saw["status"] == status, saw
    assert code in saw.get("body", code)
    refused_record(sdk, scenario, status, code)


def test_every_socket_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()
