"""What is said on a socket passes as it is: opcodes, frames, sizes, pings, close codes, in both directions."""

import os
import threading

import pytest
from websockets.sync.client import connect as library_connect

from harness import websocket
from harness.websocket import BINARY, CONTINUATION, PING, PONG, TEXT, check_record, opened, record_of, shared_gateway
from harness.websocket_dialects import ECHO

MIB = 1 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with shared_gateway(tmp_path_factory.mktemp("frames")) as gateway:
        yield gateway


@pytest.fixture
def pair(running):
    """Both ends of a socket on a path of which the gateway reads nothing, and the gateway."""
    client, provider = opened(running, running.sockets, ECHO)
    yield client, provider, running
    running.sockets.forget()


def end(client, provider):
    """A proper end, by the client."""
    client.close(1000)
    assert provider.closing().code == 1000
    assert client.next(websocket.CLOSE).code == 1000


def both_ways(client, provider):
    return [(client, provider), (provider, client)]


def test_kinds_of_messages_pass_unchanged_in_both_directions(pair):
    client, provider, gateway = pair
    for speaker, listener in both_ways(client, provider):
        for opcode, payload in [(TEXT, "你好".encode()), (BINARY, b"\x00\xff\xfe"), (TEXT, b""), (BINARY, b"")]:
            speaker.send(opcode, payload)
            assert listener.message() == (opcode, payload)
    end(client, provider)
    record = check_record(record_of(gateway, client), "openai", "openai", "openai", usage_source="none")
    assert record["request_bytes"] > 0 and record["response_bytes"] > 0 and record["error_code"] is None


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, MIB, 20 * MIB])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_message_of_any_size_arrives_as_one_frame(pair, opcode, size):
    client, provider, _ = pair
    payload = (
        os.urandom(size)
        if opcode == BINARY
        else ("żółw" * (size // 7 + 1)).encode()[: size // 7 * 7] + b"." * (size % 7)
    )
    for speaker, listener in both_ways(client, provider):
        # Neither end waits for the other: what is written is read at the same time.
        writer = threading.Thread(target=speaker.send, args=(opcode, payload))
        writer.start()
        got = listener.next(TEXT, BINARY)
        writer.join()
        assert (got.opcode, got.fin, len(got.payload)) == (opcode, True, size) and got.payload == payload


def test_fragments_stay_fragments(pair):
    client, provider, _ = pair
    pieces = [b"one ", b"", "zwei ✓".encode(), b"x" * 70_000]
    for speaker, listener in both_ways(client, provider):
        for number, piece in enumerate(pieces):
            speaker.send(CONTINUATION if number else TEXT, piece, fin=number == len(pieces) - 1)
        frames = [listener.frame() for _ in pieces]
        assert [frame.payload for frame in frames] == pieces
        assert [frame.opcode for frame in frames] == [TEXT, CONTINUATION, CONTINUATION, CONTINUATION]
        assert [frame.fin for frame in frames] == [False, False, False, True]


def test_the_first_fragment_arrives_before_the_last_is_sent(pair):
    client, provider, _ = pair
    for speaker, listener in both_ways(client, provider):
        speaker.send(TEXT, b"begun", fin=False)
        assert listener.frame() == websocket.Frame(TEXT, b"begun", fin=False)
        speaker.send(CONTINUATION, b"done")
        assert listener.frame() == websocket.Frame(CONTINUATION, b"done")


def test_a_character_may_be_cut_between_frames_and_between_packets(pair):
    client, provider, _ = pair
    word = "張三🙂".encode()
    for speaker, listener in both_ways(client, provider):
        speaker.send(TEXT, word[:2], fin=False)
        speaker.send(CONTINUATION, word[2:8], fin=False, chop=1)
        speaker.send(CONTINUATION, word[8:], chop=1)
        assert listener.message() == (TEXT, word)


def test_pings_are_answered_on_each_side_and_do_not_cross(pair):
    client, provider, _ = pair
    for speaker, listener in both_ways(client, provider):
        for word in (b"", b"are you there?", b"p" * 125):
            speaker.send(PING, word)
            assert speaker.frame() == websocket.Frame(PONG, word)
        speaker.send(TEXT, b"begun", fin=False)
        speaker.send(PING, b"in between")
        assert speaker.next(PONG).payload == b"in between"
        speaker.send(CONTINUATION, b"ended")
        assert [listener.frame().payload for _ in range(2)] == [b"begun", b"ended"], "no ping in between"


def test_a_pong_that_nobody_asked_for_harms_nobody(pair):
    client, provider, _ = pair
    for speaker, listener in both_ways(client, provider):
        speaker.send(PONG, b"as I was saying")
        speaker.text("hello")
        assert listener.message() == (TEXT, b"hello")


CLOSES = [(1000, ""), (1000, "done ✓"), (1001, "going"), (1003, "no"), (1011, "oh"), (3000, "lib"), (4999, "x" * 123)]


@pytest.mark.parametrize("code,reason", CLOSES)
@pytest.mark.parametrize("by", ["client", "provider"])
def test_close_code_and_reason_are_copied(pair, by, code, reason):
    client, provider, gateway = pair
    closer, other = (client, provider) if by == "client" else (provider, client)
    closer.close(code, reason)
    got = other.closing()
    assert (got.code, got.reason) == (code, reason)
    assert closer.next(websocket.CLOSE).code == code
    with pytest.raises(websocket.Closed):
        client.frame()
    assert record_of(gateway, client)["status"] == 101


@pytest.mark.parametrize("by", ["client", "provider"])
def test_a_close_without_a_code_stays_without_one(pair, by):
    client, provider, gateway = pair
    closer, other = (client, provider) if by == "client" else (provider, client)
    closer.send(websocket.CLOSE)
    assert other.closing().payload in (b"", websocket.close_payload(1000)), "1005 itself may not be sent"
    assert closer.next(websocket.CLOSE).code in (1000, 1005)
    check_record(record_of(gateway, client), "openai", "openai", "openai")


def test_what_was_said_before_the_close_still_arrives(pair):
    client, provider, _ = pair
    for number in range(50):
        provider.text(f"event {number}" + "." * 10_000)
    provider.close(1000, "that was all")
    assert [client.message()[1][:8] for _ in range(50)] == [
        f"event {number}".ljust(8, ".").encode() for number in range(50)
    ]
    assert client.next(websocket.CLOSE).reason == "that was all"


def test_a_thousand_messages_keep_their_order_while_both_sides_speak(pair):
    client, provider, _ = pair
    heard = {}

    def speak(peer):
        for number in range(1000):
            peer.send(BINARY if number % 3 else TEXT, b"%d" % number)

    def listen(name, peer):
        heard[name] = [int(peer.message()[1]) for _ in range(1000)]

    threads = [threading.Thread(target=speak, args=(peer,)) for peer in (client, provider)]
    threads += [threading.Thread(target=listen, args=(name, peer)) for name, peer in (("c", client), ("p", provider))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"c": list(range(1000)), "p": list(range(1000))}


def test_a_provider_that_does_one_thing_at_a_time_is_not_wedged(pair):
    """It does not read while it cannot write. Whoever stops reading it because it does not read, waits for ever."""
    client, provider, _ = pair
    payload, count = b"x" * (16 * MIB), 4  # more than the buffers of the connections hold

    def say_it_back():
        for _ in range(count):
            provider.send(*provider.message())

    threads = [
        threading.Thread(target=say_it_back),
        threading.Thread(target=lambda: [client.binary(payload) for _ in range(count)]),
    ]
    for thread in threads:
        thread.start()
    assert [len(client.message()[1]) for _ in range(count)] == [len(payload)] * count
    for thread in threads:
        thread.join()


def test_a_socket_of_the_websockets_library_offers_compression_and_gets_none(running):
    gateway, sockets = running, running.sockets
    url = gateway.base_url.replace("http", "ws") + ECHO
    with library_connect(url, additional_headers=gateway.bearer(), compression="deflate") as client:
        provider = sockets.next()
        assert client.response.headers.get("sec-websocket-extensions") is None
        assert provider.request.get("sec-websocket-extensions") is None
        client.send("hello " * 1000)
        assert provider.message() == (TEXT, b"hello " * 1000)
        provider.send(PING, b"from the provider")
        assert provider.next(PONG).payload == b"from the provider"
        provider.binary(b"bye")
        assert client.recv() == b"bye"
        closing = threading.Thread(target=provider.closing)
        closing.start()
    closing.join()
    check_record(gateway.records.of(client.response.headers["x-request-id"]), "openai", "openai", "openai")
