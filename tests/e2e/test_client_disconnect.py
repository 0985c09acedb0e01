"""A caller that leaves takes its upstream call along within a second."""

import socket
import struct
import time

import pytest

from harness import http1
from harness.upstream import HeldStream

CANCELLED_WITHIN = 1.0


def leave(call, abruptly):
    """Close the caller's connection, with a FIN or with a reset."""
    if abruptly:
        call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.close()
    return time.monotonic()


def assert_cancelled(stream, left_at):
    assert stream.ended.wait(5), "the upstream call goes on without a caller"
    assert stream.closed_at - left_at < CANCELLED_WITHIN


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
def test_before_the_first_byte(serve, upstreams, abruptly):
    stream = HeldStream(silent=True)
    gateway = serve(upstreams(stream).url)
    call = http1.OpenStream(gateway)
    assert stream.started.wait(5)
    assert_cancelled(stream, leave(call, abruptly))
    kept = gateway.records.one()
    assert (kept["end"], kept["status"], kept["user_id"]) == ("client_closed", 499, "openai")


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
def test_in_the_middle_of_a_stream(serve, upstreams, abruptly):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    call = http1.OpenStream(gateway)
    stream.event("one")
    call.head()
    call.read_until(b"one")
    assert_cancelled(stream, leave(call, abruptly))
    kept = gateway.records.one()
    assert (kept["end"], kept["status"]) == ("client_closed", 200)
    assert kept["response_bytes"] > 0


def test_while_the_upstream_floods_and_the_caller_does_not_read(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    call = http1.OpenStream(gateway)
    stream.event("one")
    call.head()
    call.read_until(b"one")
    stream.connection.settimeout(0.2)
    try:
        while True:
            stream.event("x" * 60_000)
    except TimeoutError:
        pass
    assert gateway.process.resident_kib() < 100_000, "what the caller does not read is not piled up"
    assert_cancelled(stream, leave(call, abruptly=False))
