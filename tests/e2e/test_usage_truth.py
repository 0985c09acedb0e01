"""What a call used is known however it ended: the provider's own numbers, or an estimate that says so."""

import json
import time

import pytest

from harness import http1
from harness.upstream import CHAT, HeldStream, plain

# A millionth per input token and two per output token: a cost can be read off the tokens.
PRICES = {"models": {"demo": {"input": 1, "output": 2, "cached": 0.5, "reasoning": 4}}}
CANCELLED_WITHIN = 1.0


def usage_chunk(**usage):
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "demo", "choices": [], "usage": usage}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def begun(serve, upstreams, stream, pieces, **system):
    """A streamed call of which the caller has read so many pieces."""
    gateway = serve(upstreams(stream).url, system={"prices": PRICES, **system})
    call = http1.OpenStream(gateway)
    assert stream.started.wait(5)
    call.head()
    for number in range(pieces):
        stream.event(f"word {number:02d} ")
    if pieces:
        call.read_until(b"word %02d " % (pieces - 1))
    return gateway, call


def leave(call):
    call.close()
    return time.monotonic()


def assert_cancelled(stream, left_at):
    assert stream.ended.wait(5), "the upstream call goes on without a caller"
    assert stream.closed_at is not None and stream.closed_at - left_at < CANCELLED_WITHIN


def assert_estimated(kept, end, status, output):
    assert (kept["end"], kept["status"], kept["usage_source"]) == (end, status, "estimated")
    assert kept["usage"]["input"] > 0 and kept["usage"]["output"] in output, kept["usage"]


def assert_priced(kept):
    assert kept["cost"] == kept["usage"]["input"] + 2 * kept["usage"]["output"]


def test_a_caller_who_leaves_after_20_of_200_pieces(serve, upstreams):
    stream = HeldStream()
    gateway, call = begun(serve, upstreams, stream, 20)
    assert_cancelled(stream, leave(call))
    kept = gateway.records.one()
    # 20 pieces of 8 bytes, four bytes a token; one token a piece if they were counted apart.
    assert_estimated(kept, "client_closed", 200, range(20, 61))
    assert_priced(kept)
    assert len(gateway.finish()) == 1


def test_a_caller_who_leaves_before_the_first_token(serve, upstreams):
    stream = HeldStream()
    gateway, call = begun(serve, upstreams, stream, 0)
    assert_cancelled(stream, leave(call))
    kept = gateway.records.one()
    assert_estimated(kept, "client_closed", 200, [0])
    assert_priced(kept)


def ask_whole(gateway):
    """A call that is not streamed, whose caller does not wait for the answer."""
    body = json.dumps(http1.chat_body()).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json", f"Authorization: {gateway.bearer()['Authorization']}"]
    connection = http1.connect(gateway.base_url)
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return connection


def test_a_caller_who_leaves_while_a_whole_answer_is_made(serve, upstreams):
    stream = HeldStream(silent=True)
    gateway = serve(upstreams(stream).url, system={"prices": PRICES})
    connection = ask_whole(gateway)
    assert stream.started.wait(5)
    assert_cancelled(stream, leave(connection))
    kept = gateway.records.one()
    assert_estimated(kept, "client_closed", 499, [0])
    assert_priced(kept)
    assert len(gateway.finish()) == 1


def test_what_a_cut_stream_told_at_its_beginning_is_kept(serve, upstreams):
    """Anthropic tells the input first and the output last: of a cut stream the one is known, the other estimated."""
    stream = HeldStream()
    gateway = serve(upstreams(stream).url, system={"prices": PRICES})
    body = json.dumps(http1.chat_body(stream=True, max_tokens=500)).encode()
    lines = ["POST /v1/messages HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: application/json", f"x-api-key: {gateway.keys['anthropic']}"]
    connection = http1.connect(gateway.base_url)
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    usage = {"input_tokens": 700, "cache_read_input_tokens": 300, "output_tokens": 1}
    event(stream, "message_start", message={"type": "message", "model": "demo", "usage": usage})
    for number in range(20):
        event(stream, "content_block_delta", index=0, delta={"type": "text_delta", "text": f"word {number:02d} "})
    seen = b""
    while b"word 19 " not in seen:
        seen += connection.recv(65_536)
    assert_cancelled(stream, leave(connection))
    kept = gateway.records.one()
    assert_estimated(kept, "client_closed", 200, range(20, 61))
    assert (kept["usage"]["input"], kept["usage"]["cached"]) == (1_000, 300)
    assert kept["cost"] == 700 + 150 + 2 * kept["usage"]["output"]


def event(stream, name, **fields):
    data = json.dumps({"type": name, **fields})
    stream.send(f"event: {name}\ndata: {data}\n\n".encode())


def test_an_upstream_that_breaks_in_the_middle(serve, upstreams):
    stream = HeldStream()
    gateway, call = begun(serve, upstreams, stream, 20)
    stream.ended.set()
    assert b'"error"' in call.rest(), "the caller is told"
    call.close()
    kept = gateway.records.one()
    assert_estimated(kept, "upstream_error", 200, range(20, 61))
    assert_priced(kept)
    assert len(gateway.finish()) == 1


def test_a_drained_stream_has_the_providers_numbers_and_is_read_to_its_end(serve, upstreams):
    stream = HeldStream()
    gateway, call = begun(serve, upstreams, stream, 20, client_abort="drain")
    leave(call)
    assert not stream.ended.wait(0.3), "nobody hangs up"
    for number in range(20, 200):
        stream.event(f"word {number:02d} ")
    stream.send(usage_chunk(prompt_tokens=11, completion_tokens=600, total_tokens=611))
    stream.finish()
    kept = gateway.records.one()
    assert (kept["end"], kept["status"], kept["usage_source"]) == ("client_closed", 200, "provider")
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (11, 600)
    assert_priced(kept)
    assert stream.closed_at is None and len(gateway.finish()) == 1


def test_a_drained_whole_answer_has_the_providers_numbers(serve, upstreams):
    held = HeldStream(silent=True)
    gateway = serve(upstreams(held).url, system={"prices": PRICES, "client_abort": "drain"})
    connection = ask_whole(gateway)
    assert held.started.wait(5)
    leave(connection)
    assert not held.ended.wait(0.3), "nobody hangs up"
    plain(CHAT)(None, held.connection)
    kept = gateway.records.one()
    held.ended.set()
    assert (kept["end"], kept["usage_source"]) == ("client_closed", "provider")
    assert (kept["usage"]["input"], kept["usage"]["output"], kept["cost"]) == (19, 10, 39)


def test_draining_ends_with_its_time(serve, upstreams):
    stream = HeldStream()
    gateway, call = begun(serve, upstreams, stream, 20, client_abort={"policy": "drain", "timeout": "1s"})
    left_at = leave(call)
    assert stream.ended.wait(5), "read on for ever"
    assert 0.8 < stream.closed_at - left_at < 2.5
    assert_estimated(gateway.records.one(), "client_closed", 200, range(20, 61))


def test_only_so_many_are_drained_at_once(serve, upstreams):
    streams = [HeldStream(), HeldStream()]
    waiting = iter(streams)
    system = {"prices": PRICES, "client_abort": {"policy": "drain", "concurrent": 1}}
    gateway = serve(upstreams(lambda request, connection: next(waiting)(request, connection)).url, system=system)
    for stream in streams:
        call = http1.OpenStream(gateway)
        stream.event("one")
        call.head()
        call.read_until(b"one")
        left_at = leave(call)
        if stream is streams[1]:
            assert_cancelled(stream, left_at)
        else:
            assert not stream.ended.wait(0.3)
    streams[0].send(usage_chunk(prompt_tokens=11, completion_tokens=1, total_tokens=12))
    streams[0].finish()
    sources = [kept["usage_source"] for kept in gateway.records.wait_for(2)]
    assert sources == ["provider", "estimated"]


def answered(serve, upstreams, usage, stream=False):
    """The record of a call that was answered with this usage."""
    if stream:
        text = b'data: {"id":"c1","model":"demo","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        answer = plain(text + usage_chunk(**usage) + b"data: [DONE]\n\n", "text/event-stream")
    else:
        answer = plain({**CHAT, "usage": usage})
    gateway = serve(upstreams(answer).url, system={"prices": PRICES})
    assert http1.chat(gateway, stream=stream).status == 200
    return gateway.records.one()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_zero_of_the_provider_stays_zero(serve, upstreams, stream):
    kept = answered(serve, upstreams, {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}, stream)
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (7, 0)
    assert (kept["usage_source"], kept["cost"]) == ("provider", 7) and "usage_flaw" not in kept


def test_all_zero_is_a_known_cost_of_zero(serve, upstreams):
    kept = answered(serve, upstreams, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (0, 0)
    assert (kept["usage_source"], kept["cost"]) == ("provider", 0) and kept["price_version"] != "unpriced"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("number,flaw", [(-5, "negative"), (10**13, "absurd"), (1.5, "not_a_count")])
def test_a_number_that_cannot_be_true_is_refused_and_the_others_stay(serve, upstreams, number, flaw, stream):
    kept = answered(serve, upstreams, {"prompt_tokens": number, "completion_tokens": 10}, stream)
    assert kept["usage_flaw"] == flaw
    assert kept["usage"].get("input") is None and kept["usage"]["output"] == 10
    assert kept["cost"] is None or kept["cost"] >= 20


def test_more_cached_than_input_is_refused(serve, upstreams):
    details = {"cached_tokens": 100}
    kept = answered(serve, upstreams, {"prompt_tokens": 10, "completion_tokens": 10, "prompt_tokens_details": details})
    assert kept["usage_flaw"] == "inconsistent" and kept["usage"]["input"] == 10 and not kept["usage"].get("cached")
    assert kept["cost"] == 30


def test_stream_and_whole_answer_cost_the_same(serve, upstreams):
    usage = {
        "prompt_tokens": 1_000,
        "completion_tokens": 500,
        "total_tokens": 1_500,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    whole, streamed = answered(serve, upstreams, usage), answered(serve, upstreams, usage, stream=True)
    assert whole["usage"] == streamed["usage"]
    assert whole["cost"] == streamed["cost"] == 600 + 200 + 400 * 2 + 100 * 4
    assert whole["price_version"] == streamed["price_version"]


def test_what_a_failed_attempt_used_is_priced_at_its_own_channel(serve, upstreams):
    """Given a 200 that holds an error and usage, when the call moves on, then both are in its cost."""
    error = {"error": {"message": "overloaded", "type": "server_error", "code": "server_error"}}
    bad = upstreams(plain({**error, "usage": {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}}))
    good = upstreams(plain(CHAT))

    def change(config):
        channel = {"kind": "openai", "api_key": config["channels"]["openai"]["api_key"], "health": False}
        config["channels"] = {
            "dear": {**channel, "base_url": bad.url, "priority": 0},
            "cheap": {**channel, "base_url": good.url, "priority": 1},
        }
        for user in config["users"].values():
            user["channels"] = ["dear", "cheap"]
        dear = {"channel": "dear", "input": 10, "output": 20}
        config["system"].update(failover=True, prices={"models": {"demo": [dear, {"input": 1, "output": 2}]}})

    gateway = serve(bad.url, change=change)
    assert http1.chat(gateway).json()["id"] == "chatcmpl-1"
    kept = gateway.records.one()
    failed, served = kept["attempts"]
    assert (failed["channel_id"], failed["usage"]["input"], failed["usage"]["output"]) == ("dear", 30, 4)
    assert failed["cost"] == 30 * 10 + 4 * 20 and served["channel_id"] == "cheap"
    assert (kept["usage"]["input"], kept["usage"]["output"]) == (19, 10), "of the answer alone"
    assert kept["cost"] == failed["cost"] + 19 + 20, "of everything"
