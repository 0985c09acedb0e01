"""One record per call, whatever happened to it, found again by the id that the caller was given."""

import json
import socket
import uuid
from datetime import datetime, timezone

import pytest

from harness import http1
from harness.upstream import CHAT, HeldStream, plain

FIELDS = """
id started_at duration_ms first_byte_ms user_id department key_id relay_token_id client_ip method path endpoint dialect
protocol channel_id credential_id model_asked model_served attempts status error_code end request_bytes response_bytes
usage usage_source cost cache
""".split()


def test_a_record_has_every_field_of_the_contract(gateway):
    answer = http1.chat(gateway)
    kept = gateway.records.one()
    assert set(FIELDS) <= set(kept)
    assert kept["id"] == answer.request_id and uuid.UUID(kept["id"]).version == 7
    began = datetime.fromisoformat(kept["started_at"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - began).total_seconds()) < 60
    assert kept["client_ip"] == "127.0.0.1" and kept["method"] == "POST" and kept["path"] == "/v1/chat/completions"
    assert kept["response_bytes"] == len(answer.body) and kept["credential_id"] == "default"
    (attempt,) = kept["attempts"]
    assert attempt["channel_id"] == "openai" and attempt["status"] == 200 and attempt["ms"] >= 0


def test_every_call_is_recorded_once_under_the_id_it_was_answered_with(gateway):
    answers = [http1.chat(gateway) for _ in range(20)]
    answers += [http1.call(gateway.base_url, "GET", "/v1/models", {}) for _ in range(5)]
    records = gateway.records.wait_for(25)
    assert sorted(kept["id"] for kept in records) == sorted(answer.request_id for answer in answers)


def broken(upstream_bytes, then="close"):
    def answer(request, connection):
        connection.sendall(upstream_bytes)
        return then

    return answer


WRONG = {
    "nothing": (b"", 502, "upstream_error"),
    "garbage": (b"garbage\r\n\r\n", 502, "upstream_error"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Ty", 502, "upstream_error"),
    "an endless header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000, 502, "upstream_error"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502, "upstream_error"),
    "a short body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxx", 200, "upstream_error"),
    "a broken chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx", 200, "upstream_error"),
    "a missing last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n", 200, "upstream_error"),
}


@pytest.mark.parametrize("wrong,status,end", WRONG.values(), ids=WRONG.keys())
def test_an_upstream_that_breaks_off_or_talks_nonsense_is_told_and_recorded(serve, upstreams, wrong, status, end):
    gateway = serve(upstreams(broken(wrong)).url)
    try:
        answer = http1.chat(gateway)
        assert answer.status == status == 502 and answer.code() in ("upstream_invalid", "upstream_unreachable")
        assert b"127.0.0.1" not in answer.body, "the upstream's address is nobody's business"
    except (http1.http.client.IncompleteRead, ConnectionResetError):
        assert status == 200, "once the head is out, only breaking off tells the truth"
    kept = gateway.records.one()
    assert (kept["status"], kept["end"]) == (status, end)


RIGHT = {
    "a 100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "a 103 first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "a body until close": b"HTTP/1.1 200 OK\r\n\r\nhi",
    "http/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "no reason phrase": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT.keys())
def test_an_unusual_but_lawful_upstream_is_understood(serve, upstreams, right):
    gateway = serve(upstreams(broken(right)).url)
    answer = http1.chat(gateway)
    assert (answer.status, answer.body) == (200, b"hi")
    assert gateway.records.one()["end"] == "complete"


def test_a_204_with_a_body_has_none_and_its_body_does_not_poison_the_next_call(serve, upstreams):
    odd = b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi"
    answers = iter([odd])

    def answer(request, connection):
        first = next(answers, None)
        return connection.sendall(first) if first else plain(CHAT)(request, connection)

    gateway = serve(upstreams(answer).url)
    empty = http1.chat(gateway)
    assert (empty.status, empty.body, empty.headers["content-length"]) == (204, b"", None)
    assert http1.chat(gateway).json()["id"] == "chatcmpl-1"


def test_an_unreachable_upstream_is_502_and_recorded(serve):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gateway = serve(f"http://127.0.0.1:{port}")
    answer = http1.chat(gateway)
    assert answer.status == 502 and answer.code() == "upstream_unreachable" and str(port).encode() not in answer.body
    kept = gateway.records.one()
    assert kept["end"] == "upstream_error" and kept["attempts"][0]["why"] and kept["first_byte_ms"] is None


@pytest.mark.parametrize("timeouts", [{"first_byte": "300ms"}, {"total": "300ms"}])
def test_a_silent_upstream_is_504_and_says_which_deadline(serve, upstreams, timeouts):
    gateway = serve(upstreams(HeldStream(silent=True)).url, channels={"openai": {"timeouts": timeouts}})
    answer = http1.chat(gateway)
    assert answer.status == 504 and answer.code() == "upstream_timeout"
    assert next(iter(timeouts)).replace("_", " ") in answer.json()["error"]["message"].lower()
    assert gateway.records.one()["end"] == "timeout"


def test_a_stream_that_falls_silent_is_ended(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url, channels={"openai": {"timeouts": {"idle": "300ms"}}})
    call = http1.OpenStream(gateway)
    stream.event("one")
    call.head()
    call.read_until(b"one")
    try:
        call.rest()
    except (http1.http.client.IncompleteRead, ConnectionResetError):
        pass
    call.close()
    kept = gateway.records.one()
    assert (kept["status"], kept["end"]) == (200, "timeout")


def test_a_full_disk_does_not_stop_calls(serve, demo_upstream):
    log = {"console": False, "file": {"path": "/dev/full"}}
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system={"log": log})
    assert [http1.chat(gateway).status for _ in range(10)] == [200] * 10


def test_a_full_file_is_rotated_and_no_record_is_lost(serve, demo_upstream):
    log = {"console": False, "file": {"path": "records.jsonl", "max_size": "64KiB", "keep": 100}}
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system={"log": log})
    ids = {http1.chat(gateway).request_id for _ in range(300)}
    gateway.finish()
    files = list(gateway.records.path.parent.glob("records.jsonl*"))
    kept = [json.loads(line)["id"] for path in files for line in path.read_text().splitlines()]
    assert sorted(kept) == sorted(ids)
    assert len(files) > 2 and max(path.stat().st_size for path in files) <= 64 * 1024
