"""A gigabyte goes through without being held."""

import threading

from harness import http1
from harness.upstream import CHAT, RawUpstream, plain

GIB = 1 << 30
PIECE = bytes(1 << 20)


def test_one_gibibyte_is_uploaded_with_little_memory(serve):
    upstream = RawUpstream(plain(CHAT), keep_bodies=False)
    gateway = serve(upstream.url, system={"body_limit": 2 * GIB})
    assert http1.chat(gateway).status == 200
    before = gateway.process.resident_kib()
    head = [
        "POST /v1/files HTTP/1.1",
        "Host: gateway",
        f"Authorization: {gateway.bearer()['Authorization']}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {GIB}",
    ]
    with http1.connect(gateway.base_url, timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        for _ in range(GIB // len(PIECE)):
            connection.sendall(PIECE)
        assert http1.read_answer(connection, "POST").status == 200
    peak = gateway.process.peak_resident_kib()
    upstream.stop()
    assert upstream.requests[-1].body_length == GIB
    assert peak - before < 32 * 1024, f"{before} KiB grew to {peak} KiB"
    assert gateway.records.wait_for(2)[-1]["request_bytes"] == GIB


def test_many_uploads_at_once_stay_small(serve):
    upstream = RawUpstream(plain(CHAT), keep_bodies=False)
    gateway = serve(upstream.url)
    assert http1.chat(gateway).status == 200
    before = gateway.process.resident_kib()
    body = bytes(16 << 20)
    headers = {**gateway.bearer(), "Content-Type": "application/octet-stream"}
    statuses = []

    def upload():
        statuses.append(http1.call(gateway.base_url, "POST", "/v1/files", headers, body).status)

    callers = [threading.Thread(target=upload) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    upstream.stop()
    assert statuses == [200] * 8
    assert gateway.process.peak_resident_kib() - before < 48 * 1024
