"""Calls by WebRTC: a real peer talks, is counted to the token, and stops when it may not go on."""

import signal

import pytest

from harness import http1
from harness.gateway import Gateway
from harness.openai_calls import CALLS, OpenAi
from harness.polling import until
from harness.secrets import keep
from harness.webrtc import MODEL, Call, Caller, call_id, check_call, dial, mint, post
from harness.websocket import refusal
from harness.websocket_sdk import realtime_usage, used

REVOKED_WITHIN = 4
HUNG_UP_WITHIN = 5
SESSION = {"type": "realtime", "model": MODEL}
# Those that fail shall not wait long for the calls they left.
SYSTEM = {"shutdown_timeout": "3s"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, demo_upstream):
    """A gateway for all whom one with others is enough."""
    directory = tmp_path_factory.mktemp("calls")
    with Gateway(directory, demo_upstream.url, demo_upstream.real_key, system=SYSTEM) as gateway:
        yield gateway


@pytest.fixture
def serve_calls(serve, demo_upstream):
    """Start gateways of the test's own."""
    return lambda **options: serve(demo_upstream.url, real_key=demo_upstream.real_key, system=SYSTEM, **options)


def is_kept_on_disk(gateway):
    """Whether the state of a call that goes on is."""
    return any((gateway.directory / "data").glob("open-calls/*/*.call"))


# --- who calls --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["python-new", "node-new", "python-old", "node-old"])
def sdk(request, gateway):
    with OpenAi(gateway, request.param) as sdk:
        yield sdk


@pytest.mark.parametrize("as_form", [True, False], ids=["form", "offer alone"])
@pytest.mark.parametrize("sdk", CALLS, indirect=True)
def test_an_sdk_begins_a_call_and_hangs_up(gateway, sdk, as_form):
    caller = Caller()
    asked = {"session": {**SESSION, "instructions": "Be brief."}} if as_form else {"query": {"model": MODEL}}
    answer = sdk.ask("create", sdp=caller.offer, **asked)
    call = call_id(answer["location"])
    caller.connect(answer["sdp"])
    assert "Zhang San 张三" in str(caller.converse("Say hello to Zhang San 张三")["output"])
    caller.hears_itself()
    kept = {record["id"] for record in gateway.records.all()}
    assert answer["request_id"] not in kept, "the record is written when the call ends"
    assert "error" not in sdk.ask("hangup", call_id=call)
    caller.wait_for_the_end()
    record = check_call(gateway.records.of(answer["request_id"]), model_asked=MODEL, model_served=MODEL)
    assert used(record) == caller.used() and record["usage"]["audio_output"] > 0
    assert sdk.ask("hangup", call_id=call)["status"] == 404, "it is over"


def test_a_secret_of_each_sdk_begins_a_call(gateway, sdk):
    wish = {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": SESSION}
    made = sdk.ask("secret", wish=wish)
    assert keep(made["value"]).startswith("ek_") and made["model"] == MODEL, made
    call = Call(gateway, secret=made, query="")
    call.caller.converse()
    assert used(call.leave()) == call.caller.used()


def test_a_legacy_session_has_its_secret_inside(gateway):
    made = post(gateway, "/v1/realtime/sessions", body={"model": MODEL, "voice": "verse"})
    secret = made.json()["client_secret"]
    assert made.status == 200 and made.json()["model"] == MODEL and keep(secret["value"])
    Call(gateway, secret=secret, query="").leave()


def test_a_secret_brings_its_own_session(gateway):
    secret = mint(gateway, instructions="Speak of penguins")
    call = Call(gateway, secret=secret, query="?model=another")
    created = call.caller.events[0]["session"]
    assert (created["model"], created["instructions"]) == (MODEL, "Speak of penguins")
    call.leave(model_asked=MODEL)


def test_an_alias_is_resolved(serve_calls):
    gateway = serve_calls(channels={"openai": {"models": {"mine": MODEL}}})
    call = Call(gateway, query="?model=mine")
    assert call.caller.events[0]["session"]["model"] == MODEL
    call.caller.converse()
    assert used(call.leave(model_asked="mine", model_served=MODEL)) == call.caller.used()


# --- beside the call --------------------------------------------------------------------------------------------------


def test_a_socket_beside_the_call_hears_and_speaks_and_is_not_counted_again(serve_calls):
    gateway = serve_calls()
    call = Call(gateway)
    call.caller.converse("first")
    with OpenAi(gateway, "python-new") as sdk:
        heard = sdk.ask("attend", call_id=call.id, text="second")
    assert "response.created" in heard["kinds"] and heard["kinds"][-1] == "response.done"
    assert call.caller.hear("response.done")["response"]["id"] == heard["id"], "both hear the same"
    (socket,) = until(gateway.records.all, 5, "the record of the socket")
    assert (socket["protocol"], socket["status"]) == ("websocket", 101)
    assert socket["usage_source"] == "none" and not any((socket["usage"] or {}).values()), socket
    assert used(call.leave()) == call.caller.used() and len(call.caller.usages()) == 2


def test_a_call_is_its_owners_alone(gateway):
    call = Call(gateway)
    for action in ("hangup", "refer", "accept", "reject"):
        assert post(gateway, f"/v1/realtime/calls/{call.id}/{action}", "everyone").status == 404, action
    assert refusal(gateway, f"/v1/realtime?call_id={call.id}", "everyone").status == 404
    call.caller.assert_alive()
    assert post(gateway, f"/v1/realtime/calls/{call.id}/hangup").status == 200
    call.caller.wait_for_the_end()
    call.record()


def test_what_is_said_before_anybody_could_attach_is_lost_and_the_rest_is_counted(serve_calls):
    """The provider lets nobody attach for a second."""
    gateway = serve_calls()
    call = Call(gateway, query="?model=demo-realtime-late")
    assert refusal(gateway, f"/v1/realtime?call_id={call.id}").status == 404
    until(lambda: call.caller.converse() and is_kept_on_disk(gateway), 10, "the gateway attaches")
    call.caller.converse("Do you hear me?")
    record = call.leave(model_served="demo-realtime-late")
    usages = call.caller.usages()
    assert used(record) in [realtime_usage(usages[first:]) for first in range(1, len(usages) - 1)], record
    assert record["usage_flaw"] == "attached_late", record


# --- ends -------------------------------------------------------------------------------------------------------------


def disable_key(config):
    user = config["users"]["openai"]
    user["proxy_keys"] = [{"id": "openai", "key": user.pop("proxy_key"), "status": "disabled"}]
    return "key_disabled"


def disable_user(config):
    config["users"]["openai"]["status"] = "disabled"
    return "user_disabled"


def disable_channel(config):
    config["channels"]["openai"]["status"] = "disabled"
    return "no_channel_available"


@pytest.mark.parametrize("revoke", [disable_key, disable_user, disable_channel])
def test_calls_end_when_they_may_not_go_on(serve_calls, revoke):
    gateway = serve_calls()
    calls = [Call(gateway), Call(gateway, secret=mint(gateway))]
    for call in calls:
        call.caller.converse()
    code = revoke(gateway.config)
    gateway.write_config()
    for call in calls:
        call.caller.wait_for_the_end(REVOKED_WITHIN)
        assert used(call.record(error_code=code)) == call.caller.used()


def test_a_call_ends_when_its_quota_is_used_up(serve_calls):
    def change(config):
        config["users"]["openai"]["quotas"] = [{"unit": "tokens", "per": "total", "amount": 5}]

    gateway = serve_calls(change=change)
    call = Call(gateway)
    call.caller.converse()
    call.caller.wait_for_the_end(REVOKED_WITHIN)
    assert used(call.record(error_code="quota_exceeded")) == call.caller.used()
    answer = dial(gateway, Caller().offer)
    assert (answer.status, answer.code()) == (429, "quota_exceeded")


def test_a_call_has_its_time(serve_calls):
    gateway = serve_calls(channels={"openai": {"timeouts": {"total": "1s"}}})
    call = Call(gateway)
    call.caller.converse()
    call.caller.wait_for_the_end(HUNG_UP_WITHIN)
    record = call.record(end="timeout", error_code="upstream_timeout")
    assert used(record) == call.caller.used() and 900 < record["duration_ms"] < 4000


def test_silence_beside_the_call_does_not_end_it(serve_calls):
    gateway = serve_calls(channels={"openai": {"timeouts": {"idle": "300ms"}}})
    call = Call(gateway)
    for _ in range(5):
        call.caller.hears_itself()
    call.caller.assert_alive()
    call.leave()


def test_calls_are_hung_up_before_the_gateway_stops(serve_calls):
    gateway = serve_calls()
    call = Call(gateway)
    call.caller.converse()
    gateway.process.signal(signal.SIGTERM)
    call.caller.wait_for_the_end(HUNG_UP_WITHIN)
    assert gateway.process.wait() == 0
    assert used(call.record(end="shutdown", error_code="draining")) == call.caller.used()


def test_a_crash_loses_neither_the_use_nor_the_record(serve_calls):
    gateway = serve_calls()
    call = Call(gateway)
    call.caller.converse()
    until(lambda: is_kept_on_disk(gateway), 5, "it is kept on disk")
    gateway.process.signal(signal.SIGKILL)
    gateway.process.wait()
    gateway.restart()
    assert used(call.record(end="shutdown")) == call.caller.used()
    call.caller.leave()


def test_a_call_takes_a_place_as_long_as_it_lasts(serve_calls):
    def change(config):
        config["users"]["openai"]["limits"] = {"concurrent": 1}
        config["system"]["open_stats"] = "loopback"

    def stats():
        return http1.call(gateway.base_url, "GET", "/stats").json()["protocol_stats"]

    gateway = serve_calls(change=change)
    call = Call(gateway)
    assert (stats()["webrtc_open"], stats()["webrtc_requests"]) == (1, 1)
    answer = dial(gateway, Caller().offer)
    assert (answer.status, answer.code()) == (429, "too_many_concurrent")
    assert http1.chat(gateway).status == 429, "calls of all kinds count together"
    assert post(gateway, f"/v1/realtime/calls/{call.id}/hangup").status == 200, "which can be ended nevertheless"
    call.record()
    Call(gateway).leave()
    until(lambda: (stats()["webrtc_open"], stats()["webrtc_requests"]) == (0, 2), 5, "both are over and counted")
