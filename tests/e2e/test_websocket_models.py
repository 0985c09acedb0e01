"""Models are named in what is said on a socket: each is checked against the key, aliases are applied, every time."""

import json

import pytest

from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    TEXT,
    Closed,
    Sockets,
    check_record,
    connect,
    opened,
    record_of,
    shared_gateway,
)
from harness.websocket_dialects import DASHSCOPE, GEMINI, OMNI, OPENAI, RESPONSES, run_task, setup, task_event

LIVE_MODEL = "demo-live"
USERS = ("openai", "dashscope", "gemini")


def session_update(model, **session):
    return {"type": "session.update", "session": {"type": "realtime", "model": model, **session}}


def transcription(model):
    audio = {"input": {"transcription": {"model": model, "language": "zh"}}}
    return {"type": "session.update", "session": {"type": "realtime", "audio": audio}}


def old_transcription(model):
    return {"type": "session.update", "session": {"input_audio_transcription": {"model": model}}}


# Where a model may be named: path, user, the message.
PLACES = {
    "realtime session.update": (OPENAI, "openai", session_update),
    "realtime transcription": (OPENAI, "openai", transcription),
    "realtime transcription as it was": (OPENAI, "openai", old_transcription),
    "realtime response.create": (
        OPENAI,
        "openai",
        lambda model: {"type": "response.create", "response": {"model": model}},
    ),
    "responses": (RESPONSES, "openai", lambda model: {"type": "response.create", "model": model, "input": "hi"}),
    "omni session.update": (OMNI, "dashscope", session_update),
    "run-task": (DASHSCOPE, "dashscope", run_task),
    "setup": (GEMINI, "gemini", lambda model: setup(f"models/{model}")),
    "setup by project": (
        GEMINI,
        "gemini",
        lambda model: setup(f"projects/p/locations/l/publishers/google/models/{model}"),
    ),
}
STAYS_OPEN = [name for name in PLACES if "setup" not in name]


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


@pytest.fixture(scope="module")
def shared_restricted(tmp_path_factory):
    with shared_gateway(tmp_path_factory.mktemp("restricted"), change=allowing(USERS, "demo-*")) as gateway:
        yield gateway


@pytest.fixture
def restricted(shared_restricted):
    """A gateway whose keys may use the models of the demo."""
    yield shared_restricted
    shared_restricted.sockets.forget()


@pytest.fixture(scope="module")
def shared_renaming(tmp_path_factory):
    with shared_gateway(tmp_path_factory.mktemp("renaming"), channels=aliased("fast", LIVE_MODEL)) as gateway:
        yield gateway


@pytest.fixture
def renaming(shared_renaming):
    """A gateway where `fast` is another name."""
    yield shared_renaming
    shared_renaming.sockets.forget()


def allowing(users, *models):
    def change(config):
        for user in users:
            config["users"][user]["models"] = list(models)

    return change


def aliased(alias, real):
    """Channels on which a model has another name."""
    return {
        kind: {"models": {alias: real, "demo-realtime": "demo-realtime", "demo-omni": "demo-omni"}}
        for kind in ("openai", "dashscope", "gemini")
    }


def finish(client, provider):
    client.close()
    got = provider.next(TEXT, CLOSE)
    if got.opcode == TEXT:
        cancelled = json.loads(got.payload)["header"]
        assert cancelled["action"] == "finish-task", "what still runs is ended first"
        provider.say(**task_event("task-finished", cancelled["task_id"]))
        got = provider.next(CLOSE)
    provider.answer(got)
    client.next(CLOSE)
    client.leave()


def error_code(event):
    """The code of an error event, in whichever dialect."""
    return event["error"]["code"] if "error" in event else event["header"]["error_code"]


def assert_recognized(event, path, code):
    """It is what the SDKs of the dialect take for an error."""
    if path == DASHSCOPE:
        header = event["header"]
        assert header["event"] == "task-failed" and header["task_id"] == "task-1" and header["error_message"]
    else:
        assert event["type"] == "error" and event["event_id"] and event["error"]["message"] and event["error"]["type"]
    assert error_code(event) == code


@pytest.mark.parametrize("place", STAYS_OPEN)
def test_a_model_that_the_key_may_not_use_is_refused_and_the_socket_goes_on(restricted, place):
    path, user, message = PLACES[place]
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, path, user)
    client.say(**message("forbidden-model"))
    assert_recognized(client.hear(), path, "model_not_allowed")
    client.say(**message("demo-other"))
    assert provider.hear() == message("demo-other"), "what came before it never reached the provider"
    client.say(**message("forbidden-again"))
    assert error_code(client.hear()) == "model_not_allowed", "in every message, not only the first"
    finish(client, provider)
    check_record(record_of(gateway, client), user, user, user)


@pytest.mark.parametrize("place", ["setup", "setup by project"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_gemini_closes_on_a_model_that_the_key_may_not_use(restricted, place, opcode):
    path, user, message = PLACES[place]
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, path, user)
    client.send(opcode, json.dumps(message("forbidden-model")))
    closing = client.closing()
    assert closing.code == 1008 and "forbidden-model" in closing.reason
    with pytest.raises(Closed):
        client.frame()
    client.leave()
    assert provider.closing().code in (1000, 1001, 1008), "nothing but the end reached the provider"
    kept = record_of(gateway, client)
    assert (kept["status"], kept["error_code"]) == (101, "model_not_allowed")


@pytest.mark.parametrize("place", PLACES)
def test_an_alias_becomes_the_real_name_and_all_else_stays(renaming, place):
    path, user, message = PLACES[place]
    gateway, sockets = renaming, renaming.sockets
    client, provider = opened(gateway, sockets, path, user)
    written = json.dumps(message("fast"), indent=2, ensure_ascii=False)
    client.text(written)
    opcode, arrived = provider.message()
    assert opcode == TEXT and json.loads(arrived) == message(LIVE_MODEL)
    assert arrived.decode() == json.dumps(message(LIVE_MODEL), indent=2, ensure_ascii=False), (
        "not a byte more is changed"
    )
    finish(client, provider)
    kept = record_of(gateway, client)
    if "transcription" not in place:
        assert kept["model_asked"] in ("fast", "demo-realtime", "demo-omni") and kept["model_served"]


@pytest.mark.parametrize("place", PLACES)
def test_a_message_in_many_fragments_is_judged_as_a_whole(renaming, place):
    path, user, message = PLACES[place]
    gateway, sockets = renaming, renaming.sockets
    client, provider = opened(gateway, sockets, path, user)
    written = json.dumps(message("fast")).encode()
    for start in range(0, len(written), 3):
        client.send(CONTINUATION if start else TEXT, written[start : start + 3], start + 3 >= len(written), chop=1)
    assert provider.hear() == message(LIVE_MODEL)
    finish(client, provider)


def test_a_binary_setup_with_an_alias_stays_binary(renaming):
    gateway, sockets = renaming, renaming.sockets
    client, provider = opened(gateway, sockets, GEMINI, "gemini")
    client.binary(json.dumps(setup("models/fast")).encode())
    opcode, arrived = provider.message()
    assert opcode == BINARY and json.loads(arrived) == setup(f"models/{LIVE_MODEL}")
    finish(client, provider)


# Upstreams differ in which of two they take, so neither is passed on.
CONTRADICTIONS = {
    "two types": (
        OPENAI,
        "openai",
        '{"type":"input_audio_buffer.clear","type":"session.update","session":{"model":"demo-x"}}',
    ),
    "two models": (OPENAI, "openai", '{"type":"session.update","session":{"model":"demo-a","model":"forbidden"}}'),
    "two sessions": (
        OPENAI,
        "openai",
        '{"type":"session.update","session":{"model":"demo-a"},"session":{"model":"forbidden"}}',
    ),
    "an escaped key": (OPENAI, "openai", '{"type":"session.update","session":{"mod\\u0065l":"forbidden","x":1}}'),
    "an escaped type": (OPENAI, "openai", '{"type":"session\\u002eupdate","session":{"model":"forbidden"}}'),
    "the type last": (OPENAI, "openai", '{"session":{"model":"forbidden"},"type":"session.update"}'),
    "the model first": (RESPONSES, "openai", '{"model":"forbidden","input":"hi","type":"response.create"}'),
    "two headers": (
        DASHSCOPE,
        "dashscope",
        '{"header":{"action":"continue-task","task_id":"task-1"},"header":{"action":"run-task","task_id":"task-1"},'
        '"payload":{"model":"forbidden"}}',
    ),
    "the payload first": (
        DASHSCOPE,
        "dashscope",
        '{"payload":{"model":"forbidden"},"header":{"action":"run-task","task_id":"task-1"}}',
    ),
}


@pytest.mark.parametrize("path,user,written", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_no_way_of_writing_gets_a_model_past_the_check(restricted, path, user, written):
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, path, user)
    client.text(written)
    got = client.next(TEXT, CLOSE)
    if got.opcode == CLOSE:
        assert got.code == 1008 and provider.next(CLOSE), "it says twice what it is"
        return
    assert error_code(json.loads(got.payload)) in ("model_not_allowed", "invalid_request")
    client.say(type="probe")
    assert provider.hear() == {"type": "probe"}
    finish(client, provider)


LEFT_ALONE = [
    b'{"type":"input_audio_buffer.append","audio":"' + b"AAAA" * 100_000 + b'"}',
    b'{"type":"conversation.item.create","item":{"model":"forbidden"}}',
    b"no JSON at all",
    b"{",
    b"[]",
    b"",
    b'"session.update"',
    b'{"kind":"session.update","model":"forbidden"}',
]


@pytest.mark.parametrize("message", LEFT_ALONE, ids=lambda message: message[:24].decode())
def test_whatever_names_no_model_passes_byte_for_byte(restricted, message):
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, OPENAI)
    client.text(message)
    assert provider.message() == (TEXT, message)
    client.binary(message)
    assert provider.message() == (BINARY, message)
    finish(client, provider)


def test_a_message_that_names_a_model_and_is_too_large_to_hold_is_refused(restricted):
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, OPENAI)
    instructions = "x" * (3 << 20)
    client.say(**session_update("demo-realtime", instructions=instructions))
    got = client.next(TEXT, CLOSE)
    assert (got.opcode, got.code) == (CLOSE, 1009) or error_code(json.loads(got.payload)), got
    assert provider.is_silent(0.05) or provider.next(CLOSE)


def test_one_tasks_refusal_leaves_the_others_alone(restricted):
    gateway, sockets = restricted, restricted.sockets
    client, provider = opened(gateway, sockets, DASHSCOPE, "dashscope")
    client.say(**run_task("demo-voice", "good"))
    assert provider.hear()["header"]["task_id"] == "good"
    client.say(**run_task("forbidden", "bad"))
    failed = client.hear()
    assert (failed["header"]["task_id"], failed["header"]["event"]) == ("bad", "task-failed")
    provider.say(**task_event("task-finished", "good", {"characters": 5}))
    assert client.hear()["header"]["task_id"] == "good"
    finish(client, provider)
    kept = check_record(record_of(gateway, client), "dashscope", "dashscope", "dashscope")
    assert kept["usage"]["characters"] == 5


def test_a_channel_that_serves_some_models_only_is_a_limit_too(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"models": ["demo-realtime"]}})
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(**session_update("another-model"))
    assert error_code(client.hear()) in ("no_such_route", "model_not_allowed")
    client.say(**session_update("demo-realtime"))
    assert provider.hear() == session_update("demo-realtime")
    finish(client, provider)


def test_the_next_socket_of_another_user_is_judged_by_that_users_models(serve, upstreams, sockets):
    def change(config):
        allowing(["openai"], "demo-a")(config)
        config["users"]["everyone"].update(models=["demo-b"], channels=["openai"])

    gateway = serve(upstreams(sockets).url, change=change)
    for user, allowed, other in (("openai", "demo-a", "demo-b"), ("everyone", "demo-b", "demo-a")):
        with connect(gateway, RESPONSES, user) as client, sockets.next() as provider:
            client.say(type="response.create", model=other)
            assert error_code(client.hear()) == "model_not_allowed"
            client.say(type="response.create", model=allowed)
            assert provider.hear()["model"] == allowed
