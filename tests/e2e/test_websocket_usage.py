"""What a socket used, to the token: summed over responses, tasks and turns, however it ends, and priced."""

import pytest

from harness.websocket import BINARY, CLOSE, Sockets, check_record, opened
from harness.websocket_dialects import (
    DASHSCOPE,
    ECHO,
    GEMINI,
    OMNI,
    OPENAI,
    RESPONSES,
    as_binary,
    realtime_usage,
    response_completed,
    response_created,
    response_done,
    run_task,
    setup,
    task_event,
    turn,
)

# A millionth per input token and two per output token: a cost can be read off the tokens.
RATE = {"input": 1, "output": 2}
PRICES = {"models": {"demo-realtime": RATE, "demo-a": RATE, "demo-b": {"input": 10, "output": 20}, "demo-live": RATE}}


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


@pytest.fixture
def gateway(serve, upstreams, sockets):
    return serve(upstreams(sockets).url, system={"prices": PRICES})


def finish(client, provider):
    client.close()
    provider.closing()
    client.next(CLOSE)
    client.leave()


def tell(client, provider, event, binary=False):
    """The provider says something, and it arrives."""
    provider.send(BINARY, as_binary(event)) if binary else provider.say(**event)
    assert client.hear() == event


def used(record):
    assert record["usage_source"] == "provider", record
    return {name: value for name, value in record["usage"].items() if value}


def test_every_response_of_a_realtime_session_is_counted(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    usages = [
        realtime_usage(119, 36, cached=64, audio_in=8, audio_out=112),
        realtime_usage(200, 50, cached=100),
        realtime_usage(7, 3, audio_out=4),
    ]
    for number, (usage, status) in enumerate(zip(usages, ("completed", "cancelled", "incomplete"), strict=True)):
        tell(client, provider, response_created(f"resp_{number}"))
        tell(client, provider, response_done(usage, f"resp_{number}", status))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai", endpoint="/v1/realtime")
    assert used(kept) == {"input": 334, "output": 205, "cached": 164, "audio_input": 8, "audio_output": 116}
    assert (kept["model_asked"], kept["model_served"]) == ("demo-realtime", "demo-realtime")
    assert kept["price_version"] and kept["cost"], kept


def test_a_session_is_priced_by_its_tokens(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    for usage in (realtime_usage(100, 10), realtime_usage(50, 5)):
        tell(client, provider, response_done(usage))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai")
    assert kept["cost"] == 150 + 2 * 15


def test_a_failed_response_without_usage_adds_nothing(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    tell(client, provider, response_done(None, status="failed"))
    tell(client, provider, response_done(realtime_usage(10, 5)))
    finish(client, provider)
    assert used(gateway.records.one()) == {"input": 10, "output": 5}


def test_transcription_of_the_input_is_counted_too(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    tell(client, provider, response_done(realtime_usage(10, 5)))
    spoken = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 45,
        "total_tokens": 59,
    }
    completed = "conversation.item.input_audio_transcription.completed"
    tell(client, provider, {"type": completed, "event_id": "e", "transcript": "hi", "usage": spoken})
    finish(client, provider)
    usage = used(gateway.records.one())
    assert (usage["input"], usage["output"]) == (24, 50)


def test_what_looks_like_usage_but_is_said_by_the_client_counts_nothing(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(**response_done(realtime_usage(1000, 1000)))
    assert provider.hear()["type"] == "response.done"
    tell(client, provider, {"type": "response.output_text.delta", "delta": '"usage":{"input_tokens":99}'})
    tell(client, provider, {"type": "conversation.item.added", "response": {"usage": realtime_usage(9, 9)}})
    finish(client, provider)
    assert gateway.records.one()["usage_source"] == "none"


def test_responses_over_a_socket_are_counted_each_by_its_model(gateway, sockets):
    client, provider = opened(gateway, sockets, RESPONSES)
    usage = {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 29,
    }
    for model in ("demo-a", "demo-a"):
        client.say(type="response.create", model=model, input="hi")
        provider.hear()
        tell(client, provider, response_completed(usage, model))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai", endpoint="/v1/responses")
    assert used(kept) == {"input": 38, "output": 20, "cached": 8, "reasoning": 6}
    assert (kept["model_asked"], kept["model_served"]) == ("demo-a", "demo-a")
    assert kept["cost"]


def test_two_models_on_one_socket_have_each_its_price(gateway, sockets):
    client, provider = opened(gateway, sockets, RESPONSES)
    usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    for model in ("demo-a", "demo-b"):
        client.say(type="response.create", model=model, input="hi")
        provider.hear()
        tell(client, provider, response_completed(usage, model))
    finish(client, provider)
    kept = gateway.records.one()
    assert used(kept) == {"input": 200, "output": 20}
    assert kept["cost"] == (100 + 20) + (1000 + 200)


def test_usage_is_cumulative_within_a_task_and_added_up_over_tasks(gateway, sockets):
    client, provider = opened(gateway, sockets, DASHSCOPE, "dashscope")
    for task in ("one", "two"):
        client.say(**run_task("demo-voice", task))
        provider.hear()
        tell(client, provider, task_event("task-started", task))
    tell(client, provider, task_event("result-generated", "one", {"characters": 5}))
    tell(client, provider, task_event("result-generated", "two", {"characters": 3}))
    tell(client, provider, task_event("result-generated", "one", {"characters": 9}))
    tell(client, provider, task_event("task-finished", "one", {"characters": 13}))
    tell(client, provider, task_event("result-generated", "two", {"characters": 7}))
    tell(client, provider, task_event("task-finished", "two"))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "dashscope", "dashscope", "dashscope", endpoint=DASHSCOPE)
    assert used(kept) == {"characters": 20}
    assert kept["model_asked"] == "demo-voice"


def test_recognition_is_counted_in_seconds(gateway, sockets):
    client, provider = opened(gateway, sockets, DASHSCOPE, "dashscope")
    client.say(**run_task("demo-recognize"))
    provider.hear()
    for seconds in (1, 3, 8):
        tell(client, provider, task_event("result-generated", usage={"duration": seconds}))
    tell(client, provider, task_event("task-finished"))
    finish(client, provider)
    assert used(gateway.records.one()) == {"seconds": 8}


def test_omni_spells_its_details_in_the_plural(gateway, sockets):
    client, provider = opened(gateway, sockets, OMNI, "dashscope")
    tell(client, provider, response_done(realtime_usage(12, 4, audio_in=8, audio_out=6, plural=True)))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "dashscope", "dashscope", "dashscope", endpoint="/api-ws/v1/realtime")
    assert used(kept) == {"input": 20, "output": 10, "audio_input": 8, "audio_output": 6}


@pytest.mark.parametrize("binary", [True, False], ids=["binary frames", "text frames"])
def test_gemini_is_counted_by_turn(gateway, sockets, binary):
    client, provider = opened(gateway, sockets, GEMINI, "gemini")
    client.say(**setup("models/demo-live"))
    provider.hear()
    tell(client, provider, {"setupComplete": {}}, binary)
    for event in (
        turn(11, 3, is_last=False),
        turn(11, 7, thoughtsTokenCount=2),
        turn(30, 5, cachedContentTokenCount=8),
    ):
        tell(client, provider, event, binary)
    finish(client, provider)
    kept = check_record(gateway.records.one(), "gemini", "gemini", "gemini", model_asked="demo-live")
    assert used(kept) == {"input": 41, "output": 14, "reasoning": 2, "cached": 8}


def test_a_path_of_which_nothing_is_known_has_no_usage(gateway, sockets):
    client, provider = opened(gateway, sockets, ECHO)
    tell(client, provider, response_done(realtime_usage(10, 5)))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai")
    assert kept["usage_source"] == "none" and kept["cost"] is None


# --- however it ends --------------------------------------------------------------------------------------------------


def test_a_client_that_vanishes_leaves_its_usage_behind(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    tell(client, provider, response_done(realtime_usage(10, 5)))
    client.vanish()
    assert provider.closing().code in (1000, 1001)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai", end="client_closed")
    assert used(kept) == {"input": 10, "output": 5} and kept["cost"] == 20


def test_a_provider_that_vanishes_is_told_to_the_client(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    tell(client, provider, response_done(realtime_usage(10, 5)))
    provider.vanish()
    event = client.hear()
    assert event["type"] == "error" and event["error"]["code"] == "upstream_invalid"
    assert client.closing().code == 1011, "1006 may not be sent"
    kept = check_record(gateway.records.one(), "openai", "openai", "openai", end="upstream_error")
    assert used(kept) == {"input": 10, "output": 5}


def test_usage_of_a_task_that_never_ended_is_kept(gateway, sockets):
    client, provider = opened(gateway, sockets, DASHSCOPE, "dashscope")
    client.say(**run_task("demo-voice"))
    provider.hear()
    tell(client, provider, task_event("result-generated", usage={"characters": 9}))
    client.vanish()
    cancelled = provider.hear()
    assert (cancelled["header"]["action"], cancelled["payload"]["input"]) == ("finish-task", {"directive": "cancel"})
    provider.vanish()
    assert used(gateway.records.one()) == {"characters": 9}


def test_a_client_that_leaves_during_a_response_pays_what_the_provider_still_tells(gateway, sockets):
    """The provider is asked to stop, and its answer says what was used."""
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(type="response.create")
    assert provider.hear()["type"] == "response.create"
    tell(client, provider, response_created())
    client.vanish()
    assert provider.hear()["type"] == "response.cancel"
    provider.say(**response_done(realtime_usage(10, 5), "resp_open", "cancelled"))
    provider.closing()
    kept = check_record(gateway.records.one(), "openai", "openai", "openai", end="client_closed")
    assert used(kept) == {"input": 10, "output": 5}


def test_an_error_of_the_provider_is_noted(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    tell(client, provider, {"type": "error", "event_id": "e", "error": {"type": "server_error", "code": "broken"}})
    provider.close(4000, "broken")
    assert client.closing().code == 4000
    kept = gateway.records.one()
    assert (kept["status"], kept["end"]) == (101, "complete") or kept["end"] == "upstream_error", kept


def test_usage_that_is_nonsense_harms_nothing(gateway, sockets):
    client, provider = opened(gateway, sockets, OPENAI)
    for usage in (
        {"input_tokens": -5},
        {"input_tokens": "many"},
        {"input_tokens": 10**30},
        [],
        "x",
        {"input_tokens": 1.5},
    ):
        tell(client, provider, response_done(usage))
    tell(client, provider, response_done(realtime_usage(10, 5)))
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai")
    assert kept["usage"]["output"] == 5 and kept["usage"]["input"] >= 10
