"""A caller that leaves takes its upstream call along within a second."""

import json
import socket
import struct
import subprocess
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


CANCELS_ONE_STREAM = """
const [base, key, body] = process.argv.slice(1);
const session = require("http2").connect(base);
const headers = { ":method": "POST", ":path": "/v1/chat/completions", authorization: key };
const call = session.request({ ...headers, "content-type": "application/json" });
call.on("data", () => { call.close(8); console.log("left"); });
call.end(body);
setTimeout(() => session.close(), 5000);
"""


def test_one_cancelled_stream_of_an_http2_connection(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    arguments = [gateway.base_url, gateway.bearer()["Authorization"], json.dumps(http1.chat_body(stream=True))]
    with subprocess.Popen(["node", "-e", CANCELS_ONE_STREAM, *arguments], stdout=subprocess.PIPE) as caller:
        stream.event("one")
        assert caller.stdout.readline() == b"left\n"
        assert_cancelled(stream, time.monotonic())
        assert gateway.records.one()["end"] == "client_closed"
        caller.terminate()


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
