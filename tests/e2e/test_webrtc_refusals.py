"""Calls that must not come about, secrets that must open nothing, and what crosses the gateway when a call begins."""

import contextlib
import json
import threading

import pytest

from harness import http1, secrets
from harness.gateway import Gateway
from harness.polling import until
from harness.webrtc import CALLS, MODEL, SECRETS, Call, Caller, bearer, dial, mint, post
from harness.websocket import Sockets, refusal
from harness.websocket_dialects import realtime_usage, response_done
from harness.websocket_sdk import used

SYSTEM = {"shutdown_timeout": "3s"}
SHORTEST = 10


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, demo_upstream):
    """A gateway for all whom one with others is enough."""
    directory = tmp_path_factory.mktemp("refusals")

    def change(config):
        config["users"]["anthropic"].update(channels=["openai"], models=[MODEL])

    with Gateway(directory, demo_upstream.url, demo_upstream.real_key, system=SYSTEM, change=change) as gateway:
        yield gateway


@pytest.fixture(scope="module", autouse=True)
def expiring(gateway):
    """A secret of the shortest life, which has passed when the last test comes."""
    return mint(gateway, seconds=SHORTEST)


@pytest.fixture(scope="module")
def offer():
    """An offer of a real peer, which may be sent any number of times."""
    caller = Caller()
    yield caller.offer
    caller.leave()


@pytest.fixture
def serve_calls(serve, demo_upstream):
    """Start gateways of the test's own."""

    def start(system=None, **options):
        return serve(demo_upstream.url, real_key=demo_upstream.real_key, system={**SYSTEM, **(system or {})}, **options)

    return start


def assert_refused(gateway, answer, status, code):
    """What the caller is told, and what is recorded: no call."""
    assert (answer.status, answer.code()) == (status, code), answer.body
    record = gateway.records.of(answer.request_id)
    assert (record["status"], record["error_code"], record["protocol"]) == (status, code, "http"), record
    return record


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_opens_calls_and_nothing_else(gateway):
    secret = bearer(mint(gateway))
    for method, target, body in (
        ("POST", "/v1/chat/completions", http1.chat_body()),
        ("POST", "/v1/responses", {"model": "demo", "input": "hello"}),
        ("GET", "/v1/models", None),
        ("POST", SECRETS, {"session": {"type": "realtime", "model": MODEL}}),
        ("POST", f"{CALLS}/rtc_1/hangup", None),
    ):
        answer = http1.call(gateway.base_url, method, target, secret, body)
        assert_refused(gateway, answer, 403, "invalid_credential")
    answer = refusal(gateway, f"/v1/realtime?model={MODEL}", user=None, headers=secret)
    assert (answer.status, answer.code()) == (403, "invalid_credential")


def test_a_secret_for_one_call_is_used_up_by_it(gateway, offer):
    secret = mint(gateway, headers={"X-AIProxy-Max-Calls": "1"})
    assert dial(gateway, "v=0\r\n", None, bearer(secret)).status == 400
    call = Call(gateway, secret=secret)
    assert dial(gateway, offer, None, bearer(secret)).status == 401, "an offer that the provider refused took nothing"
    call.leave()
    assert dial(gateway, offer, None, bearer(secret)).status == 401, "not even when the call is over"


def test_of_two_calls_at_once_with_a_secret_for_one_only_one_begins(gateway):
    secret = mint(gateway, headers={"X-AIProxy-Max-Calls": "1"})
    callers, answers = [Caller() for _ in range(4)], []
    threads = [
        threading.Thread(target=lambda offer=caller.offer: answers.append(dial(gateway, offer, None, bearer(secret))))
        for caller in callers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert sorted(answer.status for answer in answers) == [201, 401, 401, 401]
    (begun,) = [answer for answer in answers if answer.status == 201]
    assert post(gateway, f"{begun.headers['location']}/hangup").status == 200
    gateway.records.of(begun.request_id)


def test_two_users_are_not_mixed(gateway, offer):
    secret = mint(gateway)
    headers = {"Authorization": f"Bearer {secret['value']}", "x-api-key": gateway.keys["everyone"]}
    assert_refused(gateway, dial(gateway, offer, None, headers), 403, "invalid_credential")


def test_a_secret_does_not_outlive_its_key(serve_calls, offer):
    gateway = serve_calls()
    secret = mint(gateway)
    gateway.config["users"]["openai"]["status"] = "disabled"
    gateway.write_config()
    answer = until(lambda: no_call(gateway, "v=0", secret), 5, "the config is in force")
    assert_refused(gateway, answer, 403, "user_disabled")


def no_call(gateway, offer, secret):
    """The answer to an offer that nobody can take, unless it comes from the provider."""
    answer = dial(gateway, offer, None, bearer(secret))
    return answer if answer.status != 400 else None


def test_a_secret_does_not_survive_a_restart(serve_calls, offer):
    gateway = serve_calls()
    secret = mint(gateway)
    gateway.finish()
    gateway.restart()
    assert_refused(gateway, dial(gateway, offer, None, bearer(secret)), 401, "invalid_credential")


# --- offers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CALLS, SECRETS])
def test_a_model_that_a_key_may_not_use_is_refused(gateway, offer, target):
    def ask(session):
        if target == SECRETS:
            return post(gateway, SECRETS, "anthropic", {"session": session})
        return post(gateway, CALLS, "anthropic", form(offer, session), FORM_HEADERS)

    transcribed = {"audio": {"input": {"transcription": {"model": "forbidden"}}}}
    for session in ({"model": "forbidden"}, {"model": MODEL, **transcribed}):
        assert_refused(gateway, ask({"type": "realtime", **session}), 403, "model_not_allowed")
    if target == CALLS:
        assert_refused(gateway, dial(gateway, offer, "anthropic", query="?model=forbidden"), 403, "model_not_allowed")


FORM_HEADERS = {"Content-Type": "multipart/form-data; boundary=cut"}


def form(offer, session):
    """An offer and a session as a form."""
    parts = (("sdp", "application/sdp", offer), ("session", "application/json", json.dumps(session)))
    texts = [
        f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n{text}\r\n'
        for name, kind, text in parts
    ]
    return "".join([*texts, "--cut--\r\n"]).encode()


@pytest.mark.parametrize("offer", [b"v=0\r\n", b"garbage", bytes(range(256)), "v=0 张三".encode()], ids=repr)
def test_the_provider_says_what_is_wrong_with_an_offer(gateway, offer):
    answer = dial(gateway, offer)
    assert answer.status == 400 and answer.json()["error"]["type"] == "invalid_request_error", answer.body
    assert gateway.records.of(answer.request_id)["attempts"], "the gateway reads no SDP"


@pytest.mark.parametrize("length", [64 * 1024 + 1, 10 << 20])
@pytest.mark.parametrize("by_secret", [True, False], ids=["secret", "key"])
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "whole"])
def test_an_offer_may_not_be_endless(gateway, length, by_secret, chunked):
    credential = bearer(mint(gateway)) if by_secret else gateway.bearer()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    lines = [f"POST {CALLS}?model={MODEL} HTTP/1.1", "Host: gateway", "Content-Type: application/sdp", framing]
    lines += [f"{name}: {value}" for name, value in credential.items()]
    body = b"v" * length
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (length, body) if chunked else body
    with http1.connect(gateway.base_url) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer does not wait for all of it
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = http1.read_answer(connection, "POST")
    assert assert_refused(gateway, answer, 413, "body_too_large")["attempts"] == []


def test_what_is_no_offer_is_refused(gateway, offer):
    plain = {"Content-Type": "text/plain"}
    coded = {"Content-Type": "application/sdp", "Content-Encoding": "gzip"}
    nothing = {"Content-Type": "application/sdp"}
    session = {"type": "realtime", "model": MODEL}
    for body, headers in (
        (offer.encode(), plain),
        (offer.encode(), coded),
        (b"", nothing),
        (b"--cut\r\n", FORM_HEADERS),
        (form("", session), FORM_HEADERS),
        (form(offer, [session]), FORM_HEADERS),
        (form(offer, {"model": 7}), FORM_HEADERS),
    ):
        record = assert_refused(gateway, post(gateway, CALLS, body=body, headers=headers), 400, "invalid_request")
        assert record["attempts"] == []


# --- calls that nobody can follow -------------------------------------------------------------------------------------

DEAF = "demo-realtime-unattachable"


def test_a_call_that_cannot_be_followed_is_hung_up(serve_calls):
    gateway = serve_calls(system={"realtime": {"attach_timeout": "1s"}})
    call = Call(gateway, query=f"?model={DEAF}")
    call.caller.converse()
    call.caller.wait_for_the_end(5)
    record = call.record(end="upstream_error", error_code="upstream_invalid")
    # As long as it was still of use to try.
    assert record["usage_source"] == "none" and 900 < record["duration_ms"] < 5000, record


def test_a_call_that_cannot_be_followed_goes_on_where_the_config_says_so(serve_calls):
    gateway = serve_calls(system={"realtime": {"attach_timeout": "1s", "unattached": "unmetered"}})
    call = Call(gateway, query=f"?model={DEAF}")
    record = call.record(usage_flaw="unmetered")
    assert record["usage_source"] == "none", record
    call.caller.assert_alive()
    call.caller.leave()


# --- what crosses the gateway -----------------------------------------------------------------------------------------


class Provider:
    """A provider whose calls are words only: it answers an offer with `location`, and lets the gateway attach."""

    LOCATION = "https://api.example.com/v1/realtime/calls/rtc_1?x=1"

    def __init__(self, location=LOCATION, status="201 Created", headers=()):
        self.sockets = Sockets()
        self.head = [f"HTTP/1.1 {status}", "Content-Type: application/sdp", f"Location: {location}", *headers]

    ANSWER = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=\xe2\x80\xa6 \r\n\r\n"

    def __call__(self, request, connection):
        if request.get("upgrade"):
            return self.sockets(request, connection)
        body = self.ANSWER if request.method == "POST" and not request.target.endswith("/hangup") else b""
        head = self.head if body else ["HTTP/1.1 200 OK"]
        connection.sendall("\r\n".join([*head, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n" + body)
        return None


def test_the_provider_gets_the_offer_as_it_is_and_the_real_key_and_nothing_of_the_page(serve, upstreams):
    provider = Provider(headers=["Set-Cookie: c=1", "openai-organization: org-real", "Content-Encoding: identity"])
    upstream = upstreams(provider)
    gateway = serve(upstream.url, system=SYSTEM)
    secret = mint(gateway, instructions="Be brief.")
    offer = b"v=0\r\no=- \xc3\xa9 \xff\r\n\r\n--cut\r\na=x\n\n"
    page = {"Origin": "https://page.example", "Referer": "https://page.example/", "Cookie": "c=1"}
    headers = {**bearer(secret), **page, "Sec-Fetch-Mode": "cors", "X-OpenAI-Agents-SDK": "openai-agents/0.20.0"}
    answer = dial(gateway, offer, None, headers, "?x=1")
    assert answer.status == 201 and answer.body == provider.ANSWER
    assert answer.headers.get_all("location") == [f"{CALLS}/rtc_1"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "location" in answer.headers["access-control-expose-headers"].lower()
    assert not {"set-cookie", "openai-organization"} & {name.lower() for name in answer.headers}

    socket = provider.sockets.next()
    begun, attached = upstream.wait_for(2)
    assert begun.line == f"POST {CALLS}?x=1 HTTP/1.1"
    assert begun.get("authorization") == attached.get("authorization") == f"Bearer {gateway.real_key}"
    assert begun.get("x-openai-agents-sdk") == "openai-agents/0.20.0"
    assert not {name for name in begun.names() if name.startswith("sec-") or name in ("origin", "cookie", "referer")}
    boundary = begun.get("content-type").split("boundary=")[1].encode()
    sdp, session = [part.split(b"\r\n\r\n", 1) for part in begun.body.split(b"--" + boundary)[1:3]]
    assert sdp[1] == offer + b"\r\n" and b'name="sdp"\r\nContent-Type: application/sdp' in sdp[0]
    assert json.loads(session[1]) == {"type": "realtime", "model": MODEL, "instructions": "Be brief."}
    assert attached.target == "/v1/realtime?call_id=rtc_1&x=1"
    assert secret["value"].encode() not in begun.head + begun.body + attached.head

    socket.say(**response_done(realtime_usage(30, 10)))
    assert post(gateway, f"{CALLS}/rtc_1/hangup").status == 200
    hung_up = upstream.wait_for(3)[2]
    assert hung_up.line == f"POST {CALLS}/rtc_1/hangup HTTP/1.1"
    assert hung_up.get("authorization") == f"Bearer {gateway.real_key}"
    socket.close()
    record = gateway.records.of(answer.request_id)
    assert (record["protocol"], record["usage"]["input"], record["usage"]["output"]) == ("webrtc", 30, 10)


@pytest.mark.parametrize("location", ["", "/", "/v1/realtime/calls/a%2Fb", '/v1/realtime/calls/a"b', "/v1/calls/.."])
def test_a_call_that_nobody_could_end_does_not_come_about(serve, upstreams, offer, location):
    gateway = serve(upstreams(Provider(location)).url, system=SYSTEM)
    assert_refused(gateway, dial(gateway, offer), 502, "upstream_invalid")


def test_a_call_goes_nowhere_else(serve, upstreams, offer):
    elsewhere = upstreams(Provider())
    provider = upstreams(Provider(elsewhere.url + CALLS, "307 Temporary Redirect"))
    gateway = serve(provider.url, system=SYSTEM)
    assert_refused(gateway, dial(gateway, offer), 502, "upstream_invalid")
    assert elsewhere.requests == []


def test_a_socket_that_is_lost_is_attached_again_and_nothing_is_counted_twice(serve, upstreams, offer):
    provider = Provider()
    gateway = serve(upstreams(provider).url, system=SYSTEM)
    answer = dial(gateway, offer)
    first = provider.sockets.next()
    first.say(**response_done(realtime_usage(30, 10), "resp_1"))
    first.leave()
    second = provider.sockets.next()
    second.say(**response_done(realtime_usage(50, 20), "resp_2"))
    second.close(1000)
    record = gateway.records.of(answer.request_id)
    assert used(record) == {"input": 80, "output": 30}


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_a_secret_ends_with_its_time(gateway, offer, expiring):
    """Waits for as much of its life as the tests before left of it."""
    answer = until(lambda: no_call(gateway, "v=0", expiring), SHORTEST + 5, "it expires")
    assert_refused(gateway, answer, 401, "invalid_credential")
    assert "expired" in answer.json()["error"]["message"]


def test_nothing_that_was_kept_holds_a_secret(gateway):
    for secret in (mint(gateway), mint(gateway, "everyone")):
        call = Call(gateway, secret=secret)
        call.caller.converse()
        call.caller.leave()
    post(gateway, "/v1/realtime/sessions", body={"model": MODEL})
    until(lambda: [record for record in gateway.records.all() if record["protocol"] == "webrtc"], 10, "the records")
    kept = [path for path in gateway.directory.rglob("*") if path.is_file() and path != gateway.config_path]
    assert len(kept) > 3
    secrets.assert_none_in(kept)
