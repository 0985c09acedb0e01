"""Usage is the provider's own, whatever form it comes in, and asking for it is invisible to the caller."""

import json

import pytest

from harness import http1
from harness.upstream import plain

USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}


def sse(*chunks):
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def delta(text=None, **more):
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None if text else "stop"}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "demo", "choices": [choice], **more}


LAST = {"id": "c1", "object": "chat.completion.chunk", "model": "demo", "choices": [], "usage": USAGE}


def streamed(serve, upstreams, body, system=None, **fields):
    """One streamed chat against an upstream that answers `body`: answer, what the upstream was asked, record."""
    upstream = upstreams(plain(body, "text/event-stream"))
    gateway = serve(upstream.url, system=system)
    answer = http1.chat(gateway, stream=True, **fields)
    return answer, json.loads(upstream.one().body), gateway.records.one()


def test_usage_is_asked_for_and_its_chunk_hidden(serve, upstreams):
    answer, asked, kept = streamed(serve, upstreams, sse(delta("hi", usage=None), delta(usage=None), LAST))
    assert asked == http1.chat_body(stream=True, stream_options={"include_usage": True})
    assert answer.body.count(b"data: ") == 3 and b'"choices": []' not in answer.body
    assert (kept["usage"]["input"], kept["usage"]["output"], kept["usage_source"]) == (19, 10, "provider")


def test_other_stream_options_are_kept(serve, upstreams):
    options = {"include_obfuscation": False}
    _, asked, kept = streamed(serve, upstreams, sse(delta("hi"), LAST), stream_options=options)
    assert asked["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert kept["usage"]["output"] == 10


def test_a_caller_who_declines_usage_does_not_see_it(serve, upstreams):
    answer, asked, _ = streamed(serve, upstreams, sse(delta("hi"), LAST), stream_options={"include_usage": False})
    assert asked["stream_options"]["include_usage"] in (True, False)
    if asked["stream_options"]["include_usage"]:
        assert b'"choices": []' not in answer.body


def test_a_caller_who_asks_gets_every_byte_as_it_is(serve, upstreams):
    body = b": ping\n\n" + sse(delta("hi"), LAST).replace(b"\n\n", b"\r\n\r\n")
    answer, _, kept = streamed(serve, upstreams, body, stream_options={"include_usage": True})
    assert answer.body == body
    assert kept["usage"]["output"] == 10


def test_usage_on_the_last_choice_is_found_and_shown(serve, upstreams):
    answer, _, kept = streamed(serve, upstreams, sse(delta("hi"), delta(usage=USAGE)))
    assert b'"usage": {' in answer.body, "a chunk with a choice is never hidden"
    assert kept["usage"]["output"] == 10


def test_an_upstream_without_usage_is_not_credited_with_one(serve, upstreams):
    answer, _, kept = streamed(serve, upstreams, sse(delta("hi"), delta()))
    assert answer.status == 200 and kept["usage_source"] in ("none", "estimated")


def test_asking_can_be_switched_off(serve, upstreams):
    body = sse(delta("hi"), delta())
    answer, asked, _ = streamed(serve, upstreams, body, system={"usage_injection": False})
    assert asked == http1.chat_body(stream=True)
    assert answer.body == body


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_error_in_the_middle_of_a_stream_reaches_the_caller(serve, upstreams, dialect):
    chat = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
    messages = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n'
    body = messages if dialect == "anthropic" else sse(delta("hi")).replace(b"data: [DONE]\n\n", b"") + chat
    gateway = serve(upstreams(plain(body, "text/event-stream")).url)
    path = "/v1/messages" if dialect == "anthropic" else "/v1/chat/completions"
    request = http1.chat_body(stream=True, max_tokens=10, stream_options={"include_usage": True})
    answer = http1.call(gateway.base_url, "POST", path, gateway.bearer(dialect), request)
    assert answer.body == body


def test_a_gemini_stream_in_the_form_of_an_array_is_metered(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    target = "/v1beta/models/demo:streamGenerateContent"
    answer = http1.call(gateway.base_url, "POST", target, {"x-goog-api-key": gateway.keys["gemini"]}, body)
    chunks = answer.json()
    last = chunks[-1]["usageMetadata"]
    kept = gateway.records.one()
    assert kept["usage"]["input"] == last["promptTokenCount"]
    assert kept["usage"]["output"] == last["candidatesTokenCount"] + last.get("thoughtsTokenCount", 0)


def test_a_stream_that_the_provider_breaks_off_is_recorded_as_such(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    call = http1.OpenStream(gateway, model="demo-break")
    call.head()
    try:
        assert b'"error"' in call.rest(), "the caller is told, in the stream or by breaking off"
    except (http1.http.client.IncompleteRead, ConnectionResetError):
        pass
    call.close()
    kept = gateway.records.one()
    assert (kept["status"], kept["end"], kept["model_asked"]) == (200, "upstream_error", "demo-break")
