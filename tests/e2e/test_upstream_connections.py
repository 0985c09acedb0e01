"""Connections to an upstream are kept, and one that went stale costs no caller a call."""

import pytest
import socket
import time

from harness import http1
from harness.polling import until
from harness.upstream import CHAT, plain


class Counted:
    """Answers, and counts the connections it came over. May hang up after each answer without a word."""

    def __init__(self, hangs_up=False):
        self.hangs_up = hangs_up
        self.connections = set()

    def __call__(self, request, connection):
        self.connections.add(connection.getpeername())
        plain(CHAT)(request, connection)
        return "close" if self.hangs_up else None


def test_calls_one_after_another_share_a_connection(serve, upstreams):
    answer = Counted()
    gateway = serve(upstreams(answer).url)
    with http1.connect(gateway.base_url) as connection:  # one client connection, so one worker
        for _ in range(10):
            connection.sendall(
                b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n\r\n"
                % gateway.keys["openai"].encode()
            )
            assert http1.read_answer(connection).status == 200
    assert len(answer.connections) == 1


def test_a_connection_that_the_upstream_closed_while_idle_costs_no_call(serve, upstreams):
    answer = Counted(hangs_up=True)
    gateway = serve(upstreams(answer).url)
    for _ in range(10):
        assert http1.chat(gateway).status == 200
        time.sleep(0.03)  # the upstream's FIN must be there before the next call, as after a real idle time
    assert len(answer.connections) == 10
    assert all(kept["status"] == 200 for kept in gateway.records.wait_for(10))


def test_a_dead_endpoint_is_stepped_over(serve, upstreams):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
    alive = upstreams(plain(CHAT))

    def change(config):
        del config["channels"]["openai"]["base_url"]
        config["channels"]["openai"]["endpoints"] = [{"base_url": dead}, {"base_url": alive.url}]

    gateway = serve(alive.url, change=change)
    assert [http1.chat(gateway).status for _ in range(6)] == [200] * 6


def test_a_call_never_moves_to_another_channel_unasked(serve, upstreams):
    other = upstreams(plain(CHAT))
    refusing = upstreams(plain({"error": {"message": "no"}}, status="500 Internal Server Error"))
    gateway = serve(other.url, channels={"openai": {"base_url": refusing.url}})
    answer = http1.chat(gateway, "everyone")
    assert (answer.status, answer.json()["error"]["message"]) == (500, "no")
    assert other.requests == []


def test_an_outbound_proxy_is_used_where_a_channel_names_one(serve, upstreams):
    """The proxy here answers everything itself, so that it can be seen to have been asked."""
    proxy = upstreams(plain(CHAT, status="403 Forbidden"))
    through = {"openai": {"base_url": "https://unreachable.invalid", "proxy": proxy.url}}
    gateway = serve(proxy.url, channels=through)
    assert http1.chat(gateway).status == 502
    asked = until(lambda: proxy.requests, 5, "the proxy is asked")[0]
    assert asked.line == "CONNECT unreachable.invalid:443 HTTP/1.1"
    assert gateway.real_key.encode() not in asked.head and gateway.keys["openai"].encode() not in asked.head
