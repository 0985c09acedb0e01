"""Which headers cross the gateway: what the API defines does; who called and who answered does not."""

import pytest

from harness import http1
from harness.gateway import Gateway
from harness.upstream import CHAT, RawUpstream, plain

PRIVATE_TO_THE_CALLER = {
    "Cookie": "session=1",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "intern.example",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6",
    "Via": "1.1 intern",
    "CF-Connecting-IP": "6.6.6.6",
    "CF-Ray": "1-FRA",
    "True-Client-IP": "6.6.6.6",
    "OpenAI-Organization": "org-1",
    "OpenAI-Project": "proj-1",
    "Referer": "https://intern.example/page",
    "Origin": "https://intern.example",
    "Proxy-Authorization": "Basic abc",
    "Connection": "keep-alive, X-Hop",
    "X-Hop": "1",
    "TE": "trailers",
}
PART_OF_THE_API = {
    "User-Agent": "OpenAI/Python 3.52.0",
    "Accept": "application/json",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "a,b",
    "OpenAI-Beta": "assistants=v2",
    "X-Stainless-Retry-Count": "1",
    "X-DashScope-WorkSpace": "ws-1",
    "Idempotency-Key": "1",
    "X-Anything-Else": "kept",
}
PRIVATE_TO_THE_UPSTREAM = {
    "Set-Cookie": "__cf_bm=1",
    "Server": "cloudflare",
    "Via": "1.1 x",
    "CF-Ray": "1-FRA",
    "openai-organization": "org-real",
    "openai-project": "proj-real",
    "X-Powered-By": "y",
    "Alt-Svc": "h3",
    "Strict-Transport-Security": "max-age=1",
    "anthropic-organization-id": "org-real",
}
OF_USE_TO_THE_CALLER = {
    "openai-processing-ms": "12",
    "x-ratelimit-remaining-tokens": "1000",
    "anthropic-ratelimit-tokens-remaining": "1000",
    "Retry-After": "1",
    "openai-version": "2020-10-01",
    "request-id": "req_1",
}


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """One call with every header, and what arrived on either side."""
    headers = {**PRIVATE_TO_THE_UPSTREAM, **OF_USE_TO_THE_CALLER, "x-request-id": "req_upstream"}
    upstream = RawUpstream(plain(CHAT, headers=[f"{name}: {value}" for name, value in headers.items()]))
    gateway = Gateway(tmp_path_factory.mktemp("hygiene"), upstream.url)
    answer = http1.chat(gateway, headers={**PRIVATE_TO_THE_CALLER, **PART_OF_THE_API})
    yield upstream.one(), answer, gateway.records.one()
    gateway.stop()
    upstream.stop()


@pytest.mark.parametrize("name", PRIVATE_TO_THE_CALLER)
def test_what_is_private_to_the_caller_does_not_reach_the_upstream(crossing, name):
    arrived, _, _ = crossing
    assert PRIVATE_TO_THE_CALLER[name] not in arrived.all(name)


@pytest.mark.parametrize("name", PART_OF_THE_API)
def test_what_the_api_defines_reaches_the_upstream_unchanged(crossing, name):
    arrived, _, _ = crossing
    assert arrived.all(name) == [PART_OF_THE_API[name]]


@pytest.mark.parametrize("name", PRIVATE_TO_THE_UPSTREAM)
def test_what_is_private_to_the_upstream_does_not_reach_the_caller(crossing, name):
    _, answer, _ = crossing
    assert answer.status == 200 and answer.headers[name] is None


@pytest.mark.parametrize("name", OF_USE_TO_THE_CALLER)
def test_what_is_of_use_reaches_the_caller(crossing, name):
    _, answer, _ = crossing
    assert answer.headers[name] == OF_USE_TO_THE_CALLER[name]


def test_the_answer_carries_our_id_and_the_record_keeps_the_upstreams(crossing):
    _, answer, kept = crossing
    assert answer.request_id == kept["id"] != "req_upstream"
    assert kept["upstream_request_id"] == "req_upstream"


def test_the_upstream_is_told_its_own_host(crossing):
    arrived, _, _ = crossing
    assert arrived.get("host").startswith("127.0.0.1:")
