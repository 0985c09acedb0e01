"""Compressed answers leave as they came, event by event, and are metered all the same."""

import base64
import gzip
import json
import zlib

import pytest

from harness import http1
from harness.upstream import CHAT, HeldStream, plain

USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
LAST_CHUNK = b"data: " + json.dumps({"id": "c1", "model": "demo", "choices": [], "usage": USAGE}).encode() + b"\n\n"

# {"id":"chatcmpl-1","model":"demo","choices":[],"usage":{…}}, compressed by node's zlib and by the zstd command.
COMPRESSED = {
    "br": base64.b64decode(
        "G3QAoBwHuTn0LvjiUxqNSuCQI48voSfWDtHOab9dYftpliQU5fPJJnR0cno8oH6tJR5YC+TsAeY5LM9HiWyvZw3arK+pbVfAZEIf"
        "epD/uEgZClx87B61V1aQxCB2Q8bCR94iOooC"
    ),
    "zstd": base64.b64decode(
        "KLUv/QRoxQIAIkYTEZB9EjE8HAmfmd01y1jC2J0lexciFX7sQNCHuMk6fzkow/ilLT5OuM631bXx5tTNDtAxftuC/5YD/9mYG5eN"
        "/XTgI8g6F1ZvuXEGXQcCADULW7rNM+ueuxQ="
    ),
}


class Gzip:
    """Compresses a stream bit by bit, as a server does that flushes after each event."""

    def __init__(self):
        self.state = zlib.compressobj(wbits=31)

    def __call__(self, data, last=False):
        return self.state.compress(data) + self.state.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def delta(text):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "c1", "model": "demo", "choices": [choice]}).encode() + b"\n\n"


def test_a_compressed_answer_passes_through_and_is_metered(serve, upstreams):
    body = gzip.compress(json.dumps(CHAT).encode())
    gateway = serve(upstreams(plain(body, headers=["Content-Encoding: gzip"])).url)
    answer = http1.chat(gateway, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and answer.body == body
    kept = gateway.records.one()
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (19, 10)


def test_a_compressed_stream_leaves_event_by_event(serve, upstreams):
    stream = HeldStream(headers=b"Content-Encoding: gzip\r\n")
    gateway = serve(upstreams(stream).url)
    compress, sent = Gzip(), b""
    options = {"include_usage": True}
    running = http1.OpenStream(gateway, headers={"Accept-Encoding": "gzip"}, stream_options=options)
    read, inflate = b"", zlib.decompressobj(wbits=31)
    for event in (delta("one"), delta("two")):
        data = compress(event)
        sent += data
        stream.send(data)
        if not read:
            assert running.head().headers["content-encoding"] == "gzip"
        text = b""
        while event not in text:
            piece = running.response.read1(65536)
            assert piece, "the stream ended early"
            read += piece
            text += inflate.decompress(piece)
    data = compress(LAST_CHUNK + b"data: [DONE]\n\n", last=True)
    sent += data
    stream.send(data)
    stream.connection.sendall(b"0\r\n\r\n")
    stream.ended.set()
    assert read + running.rest() == sent, "not one byte is changed"
    running.close()
    kept = gateway.records.one()
    assert (kept["usage"]["input"], kept["usage"]["output"], kept["end"]) == (19, 10, "complete")


def test_a_compressed_stream_that_did_not_ask_for_usage_shows_none(serve, upstreams):
    whole = gzip.compress(delta("one") + LAST_CHUNK + b"data: [DONE]\n\n")

    def answer(request, connection):
        assert json.loads(request.body)["stream_options"] == {"include_usage": True}
        compressed = "gzip" in (request.get("accept-encoding") or "")
        body = whole if compressed else gzip.decompress(whole)
        encoding = ["Content-Encoding: gzip"] if compressed else []
        return plain(body, "text/event-stream", encoding)(request, connection)

    gateway = serve(upstreams(answer).url)
    response = http1.chat(gateway, headers={"Accept-Encoding": "gzip"}, stream=True)
    body = gzip.decompress(response.body) if response.headers["content-encoding"] == "gzip" else response.body
    assert delta("one").strip() in body and b"usage" not in body and b"[DONE]" in body
    assert gateway.records.one()["usage"]["output"] == 10


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_brotli_and_zstandard_are_metered_too(serve, upstreams, encoding):
    body = COMPRESSED[encoding]
    gateway = serve(upstreams(plain(body, headers=[f"Content-Encoding: {encoding}"])).url)
    assert http1.chat(gateway, headers={"Accept-Encoding": encoding}).body == body
    kept = gateway.records.one()
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (19, 10)


@pytest.mark.parametrize("encoding", ["br", "zstd", "unheard-of"])
def test_an_answer_in_any_encoding_passes_through_though_it_cannot_be_read(serve, upstreams, encoding):
    body = b"\x00these bytes are no valid compression\xff"
    gateway = serve(upstreams(plain(body, headers=[f"Content-Encoding: {encoding}"])).url)
    answer = http1.chat(gateway, headers={"Accept-Encoding": encoding})
    assert answer.status == 200 and answer.body == body and answer.headers["content-encoding"] == encoding
    assert gateway.records.one()["usage_source"] != "provider"


def test_a_broken_gzip_harms_nothing_but_the_metering(serve, upstreams):
    body = gzip.compress(json.dumps(CHAT).encode())[:40]
    gateway = serve(upstreams(plain(body, headers=["Content-Encoding: gzip"])).url)
    assert http1.chat(gateway, headers={"Accept-Encoding": "gzip"}).body == body
    assert gateway.records.one()["status"] == 200
