"""Sockets whose ends break the rules, flood, stall or vanish: closed with the right code, and nothing left behind."""

import select
import socket
import threading

import pytest

from harness import http1, websocket
from harness.admin import Admin, with_token
from harness.polling import until
from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Sockets,
    close_payload,
    connect,
    frame,
    header,
    opened,
    record_of,
    shared_gateway,
)
from harness.websocket_dialects import ECHO, OPENAI, realtime_usage, response_done

MASK = b"mask"
MIB = 1 << 20
MEMORY_KIB = 48 * 1024


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    token, system = with_token()
    with shared_gateway(tmp_path_factory.mktemp("bad-input"), system=system) as gateway:
        gateway.admin = Admin(gateway, token)
        yield gateway


@pytest.fixture
def pair(running):
    """Both ends of a socket and the gateway, which must have nothing in flight in the end."""
    client, provider = opened(running, running.sockets, OPENAI)
    yield client, provider, running
    running.sockets.forget()
    until(lambda: running.admin.json("/admin/api/v1/status")["calls_in_flight"] == 0, 10, "nothing is left in flight")


def ended(peer):
    """The close frame that comes, past whatever was said before. It is answered, and the connection ended."""
    got = peer.frame()
    while got.opcode != CLOSE:
        got = peer.frame()
    peer.answer(got)
    peer.leave()
    return got


GARBLED = {
    "a reserved bit": (frame(TEXT, b"hi", rsv=4, mask=MASK), 1002),
    "all reserved bits": (frame(BINARY, b"hi", rsv=7, mask=MASK), 1002),
    "a reserved opcode of data": (frame(3, b"hi", mask=MASK), 1002),
    "a reserved opcode of control": (frame(11, mask=MASK), 1002),
    "no mask": (frame(TEXT, b"hi"), 1002),
    "no mask on a ping": (frame(PING, b"hi"), 1002),
    "no mask on a close": (frame(CLOSE, close_payload(1000)), 1002),
    "a ping of 126 bytes": (frame(PING, b"p" * 126, mask=MASK), 1002),
    "a ping that claims 2^62 bytes": (header(PING, 1 << 62, mask=MASK), 1002),
    "a fragmented ping": (frame(PING, b"p", fin=False, mask=MASK), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"hi", mask=MASK), 1002),
    "a message in a message": (frame(TEXT, b"a", fin=False, mask=MASK) + frame(TEXT, b"b", mask=MASK), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03", mask=MASK), 1002),
    "a close with a code that may not be sent": (frame(CLOSE, close_payload(1006), mask=MASK), 1002),
    "a close whose reason is no text": (frame(CLOSE, close_payload(1000, b"\xff\xfe"), mask=MASK), (1002, 1007)),
    "a length with its highest bit": (b"\x82\xff" + b"\xff" * 8 + MASK, 1002),
    "a length that is longer than need be": (b"\x82\xfe\x00\x05" + MASK + b"hello", 1002),
    "1 GiB announced": (header(BINARY, 1 << 30, mask=MASK), 1009),
    "64 MiB and a byte": (header(TEXT, (64 << 20) + 1, mask=MASK), 1009),
    "text that is none": (frame(TEXT, b"\xc3\x28", mask=MASK), 1007),
    "text cut inside a character": (frame(TEXT, "é".encode()[:1], mask=MASK), 1007),
    "text cut in its last fragment": (
        frame(TEXT, b"ok", fin=False, mask=MASK) + frame(CONTINUATION, "张".encode()[:2], mask=MASK),
        1007,
    ),
    "a flood of fragments": (
        frame(TEXT, b"a", fin=False, mask=MASK) + frame(CONTINUATION, b"a", fin=False, mask=MASK) * 17_000,
        1008,
    ),
    "a flood of empty fragments": (
        frame(BINARY, b"", fin=False, mask=MASK) + frame(CONTINUATION, b"", fin=False, mask=MASK) * 17_000,
        1008,
    ),
}


@pytest.mark.parametrize("data,code", GARBLED.values(), ids=GARBLED.keys())
def test_a_client_that_breaks_the_rules_is_told_which_way(pair, data, code):
    client, provider, gateway = pair
    before = gateway.process.resident_kib()
    try:
        client.raw(data)
    except ConnectionError:
        pass  # It was cut in the middle of what it sent.
    got = ended(client)
    assert got.code in (code if isinstance(code, tuple) else (code,)) and got.reason
    try:
        assert ended(provider).code in (1000, 1001, 1002)
    except websocket.Closed:
        assert code == 1007, "only a message that was on its way already is cut in the middle"
    kept = record_of(gateway, client)
    assert (kept["status"], kept["error_code"]) == (101, "invalid_request")
    assert gateway.process.resident_kib() - before < MEMORY_KIB


@pytest.mark.parametrize(
    "name", ["a reserved bit", "1 GiB announced", "text cut inside a character", "a ping of 126 bytes"]
)
def test_it_does_not_matter_in_how_many_pieces_it_comes(pair, name):
    client, _, _ = pair
    data, code = GARBLED[name]
    for place in range(len(data)):
        try:
            client.raw(data[place : place + 1])
        except ConnectionError:
            break
    assert ended(client).code == code


def test_a_client_that_broke_the_rules_and_stays_is_cut(pair):
    client, _, _ = pair
    client.send(3, b"hi")
    assert client.next(CLOSE).code == 1002
    with pytest.raises(websocket.Closed):
        while True:
            client.frame()


def test_nothing_of_a_bad_frame_reaches_the_provider(pair):
    client, provider, _ = pair
    client.text("good")
    client.raw(frame(TEXT, b"bad", rsv=1, mask=MASK) + frame(TEXT, b"after", mask=MASK))
    assert provider.message() == (TEXT, b"good")
    assert provider.closing()


WRONG_PROVIDERS = {
    "a mask": frame(TEXT, b"hi", mask=MASK),
    "a reserved bit": frame(TEXT, b"hi", rsv=4),
    "a reserved opcode": frame(5, b"hi"),
    "1 GiB announced": header(BINARY, 1 << 30),
    "a ping of 126 bytes": frame(PING, b"p" * 126),
    "no frames at all": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "a flood of fragments": frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 17_000,
}


@pytest.mark.parametrize("data", WRONG_PROVIDERS.values(), ids=WRONG_PROVIDERS.keys())
def test_a_provider_that_breaks_the_rules_is_cut_and_the_client_is_told(pair, data):
    client, provider, gateway = pair
    provider.say(**response_done(realtime_usage(10, 5)))
    assert client.hear()["type"] == "response.done"
    try:
        provider.raw(data)
    except ConnectionError:
        pass
    assert ended(client).code in (1002, 1011, 1014)
    kept = record_of(gateway, client)
    assert (kept["end"], kept["error_code"]) == ("upstream_error", "upstream_invalid")
    assert kept["usage"]["input"] == 10, "what it told before counts"


@pytest.mark.parametrize("limit", [64 << 10, 1 << 20])
def test_the_largest_message_is_a_setting(serve, upstreams, sockets, limit):
    gateway = serve(upstreams(sockets).url, system={"websocket": {"message_limit": limit}})
    client, provider = opened(gateway, sockets, ECHO)
    for speaker, listener in ((client, provider), (provider, client)):
        writer = threading.Thread(target=speaker.binary, args=(b"x" * limit,))
        writer.start()
        assert len(listener.message()[1]) == limit
        writer.join()
    half = b"x" * (limit // 2)
    client.send(BINARY, half, fin=False)
    client.send(CONTINUATION, half, fin=False)
    client.send(CONTINUATION, b"x")
    assert ended(client).code == 1009, "all fragments together"


# --- peers that stall or vanish ---------------------------------------------------------------------------------------


def flood(peer, size=1 << 20, most=256):
    """Send until the other side takes no more, or everything is sent. Returns how many bytes went."""
    data, sent = memoryview(frame(BINARY, b"x" * size, mask=MASK if peer.is_client else None)), 0
    peer.connection.setblocking(False)
    try:
        for _ in range(most):
            rest = data
            while rest:
                if not select.select([], [peer.connection], [], 0.7)[1]:
                    return sent
                count = peer.connection.send(rest)
                rest, sent = rest[count:], sent + count
        return sent
    except OSError:
        return sent
    finally:
        peer.connection.settimeout(10)


def test_a_client_that_never_reads_holds_the_provider_back_and_is_cut(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, system={"timeouts": {"write": "2s"}})
    client, provider = opened(gateway, sockets, ECHO)
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    before = gateway.process.resident_kib()
    sent = flood(provider)
    assert sent < 64 * MIB, "the provider is held back: what the gateway does not get rid of it does not take"
    assert gateway.process.resident_kib() - before < MEMORY_KIB
    assert ended(provider).code in (1000, 1001), "the client is given up, and the provider is told"
    kept = gateway.records.one()
    assert kept["status"] == 101 and kept["end"] in ("timeout", "client_closed")


def test_a_provider_that_never_reads_holds_the_client_back(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, ECHO)
    provider.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    before = gateway.process.resident_kib()
    assert flood(client) < 64 * MIB
    assert gateway.process.resident_kib() - before < MEMORY_KIB
    provider.say(type="still", speaking="yes")
    assert client.hear()["type"] == "still", "one direction does not hold the other"
    client.vanish()
    provider.leave()
    # A client that is held back is not read: that it left first is seen only if it is noticed before the provider leaves.
    assert gateway.records.one()["end"] in ("client_closed", "upstream_error")


def test_pings_are_answered_while_messages_cannot_pass(serve, upstreams, sockets):
    """A client that is held back would take its provider for dead if its own pings met silence."""
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, ECHO)
    flood(provider)
    client.send(PING, b"are you there?")
    seen = client.frame()
    while seen.opcode != PONG:
        seen = client.frame()
    assert seen.payload == b"are you there?"


def test_a_flood_of_pings_is_not_piled_up(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, ECHO)
    before = gateway.process.resident_kib()
    pings = frame(PING, b"p" * 125, mask=MASK) * 100_000
    writer = threading.Thread(target=ignoring_errors, args=(client.raw, pings))
    writer.start()
    assert client.next(PONG).payload == b"p" * 125
    until(lambda: not writer.is_alive() or gateway.process.resident_kib() - before > 0, 10, "it is at it")
    assert gateway.process.resident_kib() - before < MEMORY_KIB
    client.vanish()
    writer.join()
    ended(provider)
    gateway.records.one()


def ignoring_errors(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass


@pytest.mark.parametrize("leave", ["vanish", "leave"])
@pytest.mark.parametrize("who", ["client", "provider"])
def test_an_end_without_a_goodbye_ends_the_other_leg(pair, who, leave):
    client, provider, gateway = pair
    gone, other = (client, provider) if who == "client" else (provider, client)
    getattr(gone, leave)()
    assert ended(other).code in ((1000, 1001) if who == "client" else (1011,))
    kept = record_of(gateway, client)
    assert kept["end"] == ("client_closed" if who == "client" else "upstream_error")


def test_a_connection_that_ends_inside_a_frame_is_no_close(pair):
    client, provider, gateway = pair
    client.raw(header(BINARY, 100, mask=MASK) + b"half of it")
    client.leave()
    with pytest.raises(websocket.Closed):
        provider.frame()
    assert record_of(gateway, client)["end"] == "client_closed"


def test_a_client_that_never_answers_a_close_does_not_stay(pair):
    client, provider, gateway = pair
    provider.close(1000, "bye")
    assert client.next(CLOSE).reason == "bye"
    record_of(gateway, client, within=8)
    with pytest.raises(websocket.Closed):
        client.frame()


def test_many_bad_sockets_at_once_leave_nothing_behind_and_disturb_nobody(serve, upstreams, sockets):
    token, system = with_token()
    gateway = serve(upstreams(sockets).url, system=system)
    good, provider = opened(gateway, sockets, ECHO)
    bad = [(connect(gateway, ECHO), data) for data, _ in list(GARBLED.values())[:16] * 3]
    for client, data in bad:
        ignoring_errors(client.raw, data)
    good.text("hello")
    assert provider.message() == (TEXT, b"hello")
    for client, _ in bad:
        assert ended(client).code in (1002, 1007, 1008, 1009)
    for _ in bad:
        sockets.next().leave()
    good.close()
    provider.closing()
    gateway.records.wait_for(len(bad) + 1, within=10)
    status = Admin(gateway, token).json("/admin/api/v1/status")
    assert status["calls_in_flight"] == 0
    assert http1.call(gateway.base_url, "GET", "/health").status == 200
