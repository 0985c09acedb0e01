"""What no well-behaved client sends: each gets a clear answer, and the next caller notices nothing."""

import contextlib
import json
import threading
import time

import pytest

from harness import http1
from harness.polling import until
from harness.upstream import CHAT, plain

BODY = json.dumps(http1.chat_body()).encode()


@pytest.fixture
def upstream(upstreams):
    return upstreams(plain(CHAT))


@pytest.fixture
def gateway(serve, upstream):
    """A gateway whose neighbours must still be served when the test is over."""
    gateway = serve(upstream.url, system={"body_limit": 100_000, "timeouts": {"headers": "1s", "body": "1s"}})
    yield gateway
    assert http1.chat(gateway).status == 200, "the bad input harmed another caller"


def request(gateway, *headers, body=BODY, line=b"POST /v1/chat/completions HTTP/1.1", framing=None):
    """A request whose head is written by hand. `framing` replaces Content-Length."""
    framing = [b"Content-Length: %d" % len(body)] if framing is None else framing
    key = b"Authorization: Bearer " + gateway.keys["openai"].encode()
    return b"\r\n".join([line, b"Host: gateway", key, *headers, *framing]) + b"\r\n\r\n" + body


def assert_refused(answer, status, code):
    """A refusal says what is wrong in JSON and can be found again by its id."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert error["code"] == code and error["message"]
    assert answer.request_id


SMUGGLING = {
    "content-length and transfer-encoding": [b"Content-Length: 4", b"Transfer-Encoding: chunked"],
    "transfer-encoding and content-length": [b"Transfer-Encoding: chunked", b"Content-Length: 4"],
    "two different lengths": [b"Content-Length: 4", b"Content-Length: 5"],
    "a list of lengths": [b"Content-Length: 4, 5"],
    "a signed length": [b"Content-Length: +4"],
    "a negative length": [b"Content-Length: -4"],
    "a length that is no number": [b"Content-Length: four"],
    "an unknown transfer-encoding": [b"Transfer-Encoding: xchunked"],
    "chunked not last": [b"Transfer-Encoding: chunked, identity"],
    "chunked twice": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "obsolete folding": [b"X-Folded: a\r\n b", b"Content-Length: 4"],
    "a space before the colon": [b"Transfer-Encoding : chunked", b"Content-Length: 4"],
    "a header without a name": [b": x", b"Content-Length: 4"],
    "a NUL in a header": [b"X-Nul: a\x00b", b"Content-Length: 4"],
    "a bare CR in a header": [b"X-Cr: a\rb", b"Content-Length: 4"],
}


@pytest.mark.parametrize("framing", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_smuggling_is_refused_and_the_connection_closed(gateway, upstream, framing):
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(request(gateway, framing=framing, body=b"0\r\n\r\n" + smuggled))
        assert_refused(http1.read_answer(connection), 400, "invalid_request")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "nothing after a request that cannot be framed is believed"
    assert upstream.requests == []


def test_bare_line_feeds_are_refused(gateway, upstream):
    assert_refused(http1.send(gateway.base_url, request(gateway).replace(b"\r\n", b"\n")), 400, "invalid_request")
    assert upstream.requests == []


def test_the_same_length_twice_is_refused_or_sent_on_once(gateway, upstream):
    length = b"Content-Length: %d" % len(BODY)
    answer = http1.send(gateway.base_url, request(gateway, framing=[length, length]))
    assert answer.status in (200, 400)
    for arrived in upstream.requests:
        assert arrived.get("content-length") == str(len(BODY))


@pytest.mark.parametrize(
    "line",
    [b"GARBAGE", b"POST /v1/chat/completions", b"POST  /v1/models HTTP/1.1", b"GET /v1/\xff HTTP/1.1", b"\x16\x03\x01\x02"],
)
def test_a_garbled_request_line_is_refused(gateway, line):
    assert_refused(http1.send(gateway.base_url, request(gateway, line=line)), 400, "invalid_request")


def test_http_1_1_without_a_host_is_served_or_refused_clearly(gateway):
    answer = http1.send(gateway.base_url, request(gateway).replace(b"Host: gateway\r\n", b""))
    assert answer.status in (200, 400)


@pytest.mark.parametrize("padding", [[b"X-Large: " + b"x" * 300_000], [b"X-%d: x" % n for n in range(2000)]])
def test_oversize_headers_are_431(gateway, padding):
    assert_refused(http1.send(gateway.base_url, request(gateway, *padding)), 431, "headers_too_large")


def test_an_oversize_target_is_refused(gateway):
    line = b"GET /v1/models?x=" + b"x" * 300_000 + b" HTTP/1.1"
    answer = http1.send(gateway.base_url, request(gateway, line=line, body=b""))
    assert answer.status in (414, 431), answer.body
    assert answer.code() == "headers_too_large"


def test_a_declared_body_over_the_limit_is_413_before_it_is_sent(gateway, upstream):
    answer = http1.send(gateway.base_url, request(gateway, body=b"", framing=[b"Content-Length: 100001"]))
    assert_refused(answer, 413, "body_too_large")
    assert upstream.requests == []
    assert gateway.records.one()["error_code"] == "body_too_large"


def test_a_chunked_body_over_the_limit_is_413(gateway):
    chunks = (b"2710\r\n" + b" " * 10_000 + b"\r\n") * 11 + b"0\r\n\r\n"
    answer = http1.send(gateway.base_url, request(gateway, framing=[b"Transfer-Encoding: chunked"], body=chunks))
    assert_refused(answer, 413, "body_too_large")


def test_a_body_at_the_limit_passes(gateway, upstream):
    body = BODY + b" " * (100_000 - len(BODY))
    assert http1.send(gateway.base_url, request(gateway, body=body)).status == 200
    assert upstream.one().body == body


def test_what_follows_a_body_longer_than_declared_is_not_part_of_it(gateway, upstream):
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(request(gateway) + b"{garbage}")
        assert http1.read_answer(connection).status == 200
        with contextlib.suppress(http1.http.client.BadStatusLine, ConnectionResetError):
            assert http1.read_answer(connection).status in (400, 408)
    assert upstream.one().body == BODY


@pytest.mark.parametrize("body", [b"not json", b"{\"model\": ", b"\xff\xfe\xfd", b"[]", b"null", b""])
def test_a_body_that_is_not_json_is_the_upstreams_business_where_nothing_needs_it(gateway, upstream, body):
    assert http1.send(gateway.base_url, request(gateway, body=body)).status == 200
    assert upstream.one().body == body


def test_invalid_utf8_in_a_key_is_an_unknown_key(gateway):
    data = request(gateway).replace(gateway.keys["openai"].encode(), b"\xff\xfe")
    assert_refused(http1.send(gateway.base_url, data), 401, "invalid_credential")


def test_invalid_utf8_in_another_header_reaches_the_upstream_unchanged(gateway, upstream):
    assert http1.send(gateway.base_url, request(gateway, b"X-Name: \xe5\xbc\xa0\xff")).status == 200
    assert upstream.one().get("x-name").encode("latin-1") == b"\xe5\xbc\xa0\xff"


NO_KEY = [b"Authorization: Basic abc", b"Authorization: ", b"Authorization: Bearer", b"X-Other: x"]


@pytest.mark.parametrize("header", NO_KEY)
def test_a_missing_credential_is_told_apart_from_an_unknown_one(gateway, header):
    key = b"Authorization: Bearer " + gateway.keys["openai"].encode()
    answer = http1.send(gateway.base_url, request(gateway).replace(key, header))
    assert answer.status == 401 and answer.code() in ("missing_credential", "invalid_credential")
    if header == b"X-Other: x":
        assert answer.code() == "missing_credential" and "Missing Authorization header" in answer.json()["error"]["message"]


def test_unknown_and_garbled_keys_get_one_and_the_same_answer(gateway):
    answers = []
    for key in (b"not-a-key", b"pk-openai-canary-", b"\xff", b"x" * 3000):
        data = request(gateway).replace(gateway.keys["openai"].encode(), key)
        answer = http1.send(gateway.base_url, data)
        answers.append((answer.status, answer.body.replace(answer.request_id.encode(), b"ID")))
    assert len(set(answers)) == 1, answers


def test_a_client_that_drips_its_headers_is_cut_off(gateway):
    started = time.monotonic()
    with http1.connect(gateway.base_url) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in request(gateway)[:60]:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            answer = connection.recv(65536)
            assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0], answer
    assert time.monotonic() - started < 5


def test_a_client_that_never_sends_its_body_is_408(gateway):
    answer = http1.send(gateway.base_url, request(gateway, body=BODY[:10], framing=[b"Content-Length: %d" % len(BODY)]))
    assert_refused(answer, 408, "request_timeout")


def test_a_client_that_leaves_in_the_middle_of_its_body_is_recorded(gateway):
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(request(gateway, body=BODY[:10], framing=[b"Content-Length: %d" % len(BODY)]))
    assert gateway.records.one()["end"] == "client_closed"


def test_others_are_served_while_many_bad_clients_hang(gateway):
    hanging = [http1.connect(gateway.base_url) for _ in range(200)]
    for connection in hanging:
        connection.sendall(b"POST /v1/chat")
    statuses = []
    caller = threading.Thread(target=lambda: statuses.extend(http1.chat(gateway).status for _ in range(20)))
    caller.start()
    until(lambda: len(statuses) == 20, 5, "the others are served")
    assert set(statuses) == {200}
    for connection in hanging:
        connection.close()
