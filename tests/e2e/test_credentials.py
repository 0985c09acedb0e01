"""Every place a proxy key may arrive in: it is accepted there, and nothing of it reaches the upstream."""

import pytest

from harness import http1
from harness.upstream import CHAT, plain

# Place of the key → headers and query; `<key>` stands for it.
CARRIERS = {
    "bearer": ({"Authorization": "Bearer <key>"}, ""),
    "bearer in odd case": ({"authorization": "bEARER   <key>"}, ""),
    "x-api-key": ({"x-api-key": "<key>"}, ""),
    "x-goog-api-key": ({"X-Goog-Api-Key": "<key>"}, ""),
    "api-key": ({"api-key": "<key>"}, ""),
    "query key": ({}, "key=<key>"),
    "query access_token": ({}, "access_token=<key>"),
    "authorization token": ({"Authorization": "Token <key>", "x-goog-api-key": "<key>"}, ""),
    "websocket subprotocol": (
        {"Sec-WebSocket-Protocol": "realtime,openai-insecure-api-key.<key>,openai-organization.org-1"},
        "",
    ),
    "query api-key": ({}, "api-key=<key>"),
    "query authorization": ({}, "Authorization=Bearer%20<key>"),
    "two at once": ({"Authorization": "Bearer <key>", "api-key": "<key>"}, ""),
    "a placeholder beside it": ({"Authorization": "Bearer not-needed", "x-api-key": "<key>"}, ""),
    "everywhere": (
        {"Authorization": "Bearer <key>", "x-api-key": "<key>", "x-goog-api-key": "<key>", "api-key": "<key>"},
        "key=<key>&access_token=<key>&api-key=<key>",
    ),
}
# Where each kind of channel wants its real key on its native paths.
PLACES = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key", "dashscope": "authorization"}


@pytest.fixture
def upstream(upstreams):
    return upstreams(plain(CHAT))


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS.keys())
def test_a_key_is_accepted_and_does_not_reach_the_upstream(serve, upstream, carrier):
    gateway = serve(upstream.url)
    key = gateway.keys["openai"]
    headers, query = carrier
    headers = {name: value.replace("<key>", key) for name, value in headers.items()}
    query = "&".join(part for part in ("a=1", query.replace("<key>", key), "b=%2F") if part)
    answer = http1.call(gateway.base_url, "GET", f"/v1/models?{query}", headers)
    assert answer.status == 200, answer.body

    arrived = upstream.one()
    assert key.encode() not in arrived.head
    assert arrived.target == "/v1/models?a=1&b=%2F"
    assert arrived.head.count(gateway.real_key.encode()) == 1
    assert arrived.get("authorization") == f"Bearer {gateway.real_key}"
    leftovers = {"x-api-key", "x-goog-api-key", "api-key", "openai-organization"} & arrived.names()
    assert not leftovers and b"org-1" not in arrived.head
    kept = gateway.records.one()
    assert kept["user_id"] == "openai" and kept["path"] == "/v1/models"


@pytest.mark.parametrize("kind", PLACES)
def test_openai_calls_carry_a_bearer_token_on_every_kind_of_channel(serve, upstream, kind):
    gateway = serve(upstream.url)
    assert http1.chat(gateway, kind).status == 200
    arrived = upstream.one()
    assert arrived.head.count(gateway.real_key.encode()) == 1
    assert arrived.get("authorization") == f"Bearer {gateway.real_key}"


NATIVE = {
    "openai": ("POST", "/v1/responses"),
    "anthropic": ("POST", "/v1/messages"),
    "gemini": ("POST", "/v1beta/models/demo:generateContent"),
    "dashscope": ("POST", "/api/v1/services/aigc/text-generation/generation"),
}


@pytest.mark.parametrize("kind", NATIVE)
def test_native_calls_carry_the_key_as_their_provider_expects(serve, upstream, kind):
    gateway = serve(upstream.url)
    method, path = NATIVE[kind]
    assert http1.call(gateway.base_url, method, path, gateway.bearer(kind), {"model": "demo"}).status == 200
    arrived = upstream.one()
    value = arrived.get(PLACES[kind])
    assert value in (gateway.real_key, f"Bearer {gateway.real_key}"), arrived.head
    assert arrived.head.count(gateway.real_key.encode()) == 1


@pytest.mark.parametrize(
    "path,envelope",
    [
        ("/v1/chat/completions", lambda body: body["error"]["code"]),
        ("/v1/messages", lambda body: body["error"]["type"] == "authentication_error" and body["type"] == "error"),
        ("/v1beta/models/demo:generateContent", lambda body: body["error"]["status"] == "UNAUTHENTICATED"),
        ("/api/v1/services/aigc/text-generation/generation", lambda body: body["code"] and body["request_id"]),
    ],
)
def test_an_unknown_key_is_refused_in_the_callers_dialect(serve, upstream, path, envelope):
    gateway = serve(upstream.url)
    answer = http1.call(gateway.base_url, "POST", path, {"Authorization": "Bearer nobody"}, {"model": "demo"})
    assert answer.status == 401 and answer.headers["content-type"].startswith("application/json")
    assert envelope(answer.json()), answer.body
    assert b"Invalid proxy key" in answer.body
    assert upstream.requests == []


def test_the_callers_port_is_reached_only_from_allowed_networks(serve, upstream):
    def change(config):
        config["users"]["openai"]["ip_allow"] = ["10.0.0.0/8"]

    gateway = serve(upstream.url, change=change)
    answer = http1.chat(gateway)
    assert answer.status == 403 and answer.code() == "ip_not_allowed"
    forged = http1.chat(gateway, headers={"X-Forwarded-For": "10.0.0.1"})
    assert forged.status == 403, "nobody but a trusted proxy may say where a call comes from"


def test_a_trusted_proxy_says_where_a_call_comes_from(serve, upstream):
    def change(config):
        config["users"]["openai"]["ip_allow"] = ["10.0.0.0/8"]

    gateway = serve(upstream.url, change=change, system={"trusted_proxies": ["127.0.0.1"]})
    assert http1.chat(gateway, headers={"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}).status == 200
    assert gateway.records.one()["client_ip"] == "10.0.0.1"
