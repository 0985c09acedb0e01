"""Method, path, query and body reach the upstream byte for byte, except where a channel's kind has its own root."""

import pytest

from harness import http1
from harness.upstream import CHAT, plain

UNTOUCHED = [
    "/v1/models?a=1&a=2&b=%2F&c=+&d=%20&e",
    "/v1/models?",
    "/v1/models/",
    "//v1//models//",
    "/v1/files/a%2Fb%2fc",
    "/v1/files/%E5%BC%A0%e4%b8%89",
    "/v1/files/..%2F..%2Fetc",
    "/v1/./files/../models",
    "/v1/files/a;b=c,d@e:f!$'()*~",
    "/anything/at/all?x=%00&y=%zz",
    "/v1/models?redirect=http://example.com/?a=b",
]


@pytest.fixture
def upstream(upstreams):
    return upstreams(plain(CHAT))


@pytest.mark.parametrize("target", UNTOUCHED)
def test_path_and_query_arrive_as_they_were_sent(serve, upstream, target):
    gateway = serve(upstream.url)
    assert http1.call(gateway.base_url, "GET", target, gateway.bearer()).status == 200
    assert upstream.one().line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-ODD"])
def test_any_method_arrives(serve, upstream, method):
    gateway = serve(upstream.url)
    body = b'{"a": 1}' if method in ("POST", "PUT", "PATCH") else None
    answer = http1.call(gateway.base_url, method, "/v1/files/1", gateway.bearer(), body)
    assert answer.status == 200
    assert upstream.one().line == f"{method} /v1/files/1 HTTP/1.1"
    assert upstream.one().body == (body or b"")


def test_head_is_answered_without_a_body(serve, upstreams):
    head_only = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n"
    gateway = serve(upstreams(lambda request, connection: connection.sendall(head_only)).url)
    answer = http1.call(gateway.base_url, "HEAD", "/v1/models", gateway.bearer())
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "42", b"")


BODIES = {"empty": b"", "json": b'{"model":"demo" ,\r\n "x": "\\u5f20" }', "binary": bytes(range(256)) * 500}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_arrives_byte_for_byte(serve, upstream, body):
    gateway = serve(upstream.url)
    headers = {**gateway.bearer(), "Content-Type": "application/json", "Content-Length": str(len(body))}
    assert http1.call(gateway.base_url, "POST", "/v1/chat/completions", headers, body).status == 200
    assert upstream.one().body == body
    assert gateway.records.one()["request_bytes"] == len(body)


def test_a_chunked_body_arrives_whole(serve, upstream):
    gateway = serve(upstream.url)
    key = gateway.keys["openai"].encode()
    head = b"POST /v1/files HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer " + key
    chunks = b"5\r\nhello\r\n1;extension=x\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: x\r\n\r\n"
    assert http1.send(gateway.base_url, head + b"\r\n\r\n" + chunks).status == 200
    assert upstream.one().body == b"hello world"


ROOTS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/chat/completions",
    "dashscope": "/compatible-mode/v1/chat/completions",
    "gemini": "/v1beta/openai/chat/completions",
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
@pytest.mark.parametrize("kind", ROOTS)
def test_one_openai_call_finds_the_root_of_every_kind(serve, upstream, kind, path):
    gateway = serve(upstream.url)
    answer = http1.call(gateway.base_url, "POST", f"{path}?a=%2F", gateway.bearer(kind), http1.chat_body())
    assert answer.status == 200
    assert upstream.one().target == f"{ROOTS[kind]}?a=%2F"


def test_the_path_of_a_base_url_comes_first(serve, upstream):
    gateway = serve(upstream.url, channels={"openai": {"base_url": f"{upstream.url}/prefix"}})
    http1.call(gateway.base_url, "GET", "/v1/files//a?b=c", gateway.bearer())
    assert upstream.one().target == "/prefix/v1/files//a?b=c"


def test_a_path_rewrite_matches_exactly(serve, upstream):
    rewrite = {"path_rewrite": {"/chat/completions": "/compatible/chat"}, "kind": "custom"}
    gateway = serve(upstream.url, channels={"openai": rewrite})
    for path in ("/chat/completions?a=1&a=2", "/chat/completions/"):
        http1.call(gateway.base_url, "POST", path, gateway.bearer(), b"{}")
    assert [request.target for request in upstream.wait_for(2)] == ["/compatible/chat?a=1&a=2", "/chat/completions/"]


def test_the_header_chooses_among_the_channels_of_a_key(serve, upstream):
    gateway = serve(upstream.url)
    chosen = {**gateway.bearer("everyone"), "X-AIProxy-Channel": "dashscope"}
    assert http1.call(gateway.base_url, "POST", "/v1/chat/completions", chosen, http1.chat_body()).status == 200
    assert gateway.records.one()["channel_id"] == "dashscope"
    assert "x-aiproxy-channel" not in upstream.one().names()

    foreign = {**gateway.bearer("openai"), "X-AIProxy-Channel": "dashscope"}
    refused = http1.call(gateway.base_url, "POST", "/v1/chat/completions", foreign, http1.chat_body())
    assert refused.status == 403 and refused.code() == "channel_not_allowed"


def test_an_alias_is_renamed_on_the_way_up_and_back(serve, upstream):
    gateway = serve(upstream.url, channels={"openai": {"models": {"fast": "demo"}}})
    answer = http1.chat(gateway, model="fast")
    assert upstream.one().body.count(b'"demo"') == 1 and b'"fast"' not in upstream.one().body
    assert answer.json()["model"] == "fast"
    kept = gateway.records.one()
    assert (kept["model_asked"], kept["model_served"]) == ("fast", "demo")
