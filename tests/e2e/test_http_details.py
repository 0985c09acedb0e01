"""Lawful but unusual ways to speak HTTP/1.1."""

import json
import threading

from harness import http1
from harness.polling import until
from harness.upstream import CHAT, plain

BODY = json.dumps(http1.chat_body()).encode()


def head(gateway, *headers, line="POST /v1/chat/completions HTTP/1.1"):
    lines = [line, "Host: gateway", f"Authorization: {gateway.bearer()['Authorization']}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(serve, upstreams):
    upstream = upstreams(plain(CHAT))
    gateway = serve(upstream.url)
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(head(gateway, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert http1.read_answer(connection).status == 200
    assert upstream.one().body == BODY and upstream.one().get("expect") is None


def test_a_client_that_would_send_too_much_is_told_before_it_does(serve, upstreams):
    gateway = serve(upstreams(plain(CHAT)).url, system={"body_limit": 1000})
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(head(gateway, "Content-Length: 1001", "Expect: 100-continue"))
        assert http1.read_answer(connection).status == 413


def test_requests_sent_ahead_are_answered_in_order(serve, upstreams):
    def answer(request, connection):
        plain({"target": request.target})(request, connection)

    gateway = serve(upstreams(answer).url)
    with http1.connect(gateway.base_url) as connection:
        for number in range(5):
            connection.sendall(head(gateway, line=f"GET /v1/files/{number} HTTP/1.1"))
        reader = connection.makefile("rb")
        whole = b""
        while whole.count(b'"target"') < 5:
            piece = reader.read1(65536)
            assert piece, whole
            whole += piece
    order = [whole.index(f"/v1/files/{number}".encode()) for number in range(5)]
    assert order == sorted(order)


def test_http_1_0_is_answered_and_closed(gateway):
    with http1.connect(gateway.base_url) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert b" 200 " in received.split(b"\r\n")[0]


def test_a_target_with_another_host_is_not_fetched_from_there(serve, upstreams):
    ours, foreign = upstreams(plain(CHAT)), upstreams(plain(CHAT))
    gateway = serve(ours.url)
    for line in (f"GET {foreign.url}/v1/models HTTP/1.1", f"CONNECT {foreign.url[7:]} HTTP/1.1"):
        answer = http1.send(gateway.base_url, head(gateway, line=line))
        assert answer.status in (200, 400, 404, 405, 501), answer.body
    assert foreign.requests == []
    assert all(request.get("host") == ours.url[7:] for request in ours.requests)


def test_a_redirect_is_the_callers_to_follow(serve, upstreams):
    elsewhere = upstreams(plain(CHAT))
    answer = plain({}, status="307 Temporary Redirect", headers=[f"Location: {elsewhere.url}/stolen"])
    gateway = serve(upstreams(answer).url)
    answer = http1.chat(gateway)
    assert answer.status == 307 and elsewhere.requests == []


def test_more_connections_than_allowed_are_told_so_and_those_inside_are_served(serve, upstreams):
    gateway = serve(upstreams(plain(CHAT)).url, system={"max_connections": 8})
    inside = [http1.connect(gateway.base_url) for _ in range(8)]
    for connection in inside:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert http1.read_answer(connection).status == 200
    refused = http1.chat(gateway)
    assert refused.status == 503 and refused.code() == "overloaded"
    inside[0].sendall(head(gateway, f"Content-Length: {len(BODY)}") + BODY)
    assert http1.read_answer(inside[0], "POST").status == 200
    for connection in inside:
        connection.close()
    until(lambda: http1.chat(gateway).status == 200, 5, "there is room again")


def test_many_callers_at_once_are_each_recorded_once(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    ids = []

    def caller():
        for number in range(20):
            ids.append(http1.chat(gateway, stream=number % 2 == 0).request_id)

    callers = [threading.Thread(target=caller) for _ in range(16)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(ids) == 320
    records = gateway.records.wait_for(320)
    assert {kept["id"] for kept in records} == set(ids)
    assert {kept["usage"]["output"] for kept in records} == {records[0]["usage"]["output"]}
