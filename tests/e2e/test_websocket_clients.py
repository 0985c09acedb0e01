"""Plain socket libraries against an echo: `ws` for JavaScript, `websockets` for Python, of both generations."""

import asyncio
import os

import pytest
from websockets.asyncio.client import connect

from harness.gateway import Gateway
from harness.sdk import Sdk
from harness.websocket import check_record

MIB = 1 << 20


@pytest.fixture(scope="module", params=["node-new", "node-old"])
def sdk(request, tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("ws"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, request.param, "websocket_client", "openai")


@pytest.mark.parametrize("scenario", ["text", "binary", "one_mebibyte", "twenty_mebibytes", "compression"])
def test_ws_hears_exactly_what_it_said(sdk, scenario):
    saw = sdk.saw(scenario)
    assert saw["same"] and saw["isBinary"] == (scenario in ("binary", "one_mebibyte"))
    assert (saw["code"], saw["reason"]) == (4001, "thank you")
    (kept,) = sdk.records[scenario]
    check_record(kept, "openai", "openai", "openai", usage_source="none")


def test_ws_may_send_in_fragments(sdk):
    assert sdk.saw("fragments")["text"] == "one two three"


def test_ws_gets_its_pongs(sdk):
    assert sdk.saw("pings")["pongs"] == ["", "are you there?"]


def test_ws_gets_the_subprotocol_back_without_the_key(sdk):
    assert sdk.saw("subprotocol")["protocol"] == "realtime"


def test_every_socket_of_ws_is_recorded_exactly_once(sdk):
    sdk.assert_no_surplus()


def test_websockets_hears_exactly_what_it_said_on_many_sockets_at_once(gateway):
    payloads = ["Say hello to Zhang San 张三", b"\x00\xff", "", os.urandom(MIB), "x" * (20 * MIB)]
    url = gateway.base_url.replace("http", "ws") + "/v1/echo"

    async def echo(payload):
        async with connect(url, additional_headers=gateway.bearer(), max_size=None) as socket:
            await socket.send(payload)
            heard = await socket.recv()
            assert await (await socket.ping(b"still there?")) >= 0
        return heard, socket.close_code

    async def all_at_once():
        return await asyncio.gather(*(echo(payload) for payload in payloads * 4))

    heard = asyncio.run(all_at_once())
    assert [payload for payload, _ in heard] == payloads * 4 and {code for _, code in heard} == {1000}
    for kept in gateway.records.wait_for(len(heard)):
        check_record(kept, "openai", "openai", "openai")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4001])
def test_the_providers_close_code_arrives(gateway, code):
    async def listen():
        url = gateway.base_url.replace("http", "ws") + f"/v1/close/{code}"
        async with connect(url, additional_headers=gateway.bearer()) as socket:
            await socket.wait_closed()
        return socket.close_code, socket.close_reason

    seen, reason = asyncio.run(listen())
    assert seen == code and str(code) in reason


@pytest.fixture(scope="module")
def over_http2(tmp_path_factory, demo_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("http2"), demo_upstream.url, demo_upstream.real_key)
    return Sdk(gateway, "node-new", "websocket_http2", "openai")


def test_two_sockets_share_a_connection_of_http2(over_http2):
    saw = over_http2.saw("echo")
    assert saw["enabled"] and saw["statuses"] == [200, 200], "RFC 8441 has no 101"
    assert saw["heard"] == [[1, "Say hello"], [2, "to two"]] and not saw["masked"]
    assert (saw["pong"], saw["close"]) == ([10, "are you there?"], [8, 4001])
    for kept in over_http2.records["echo"]:
        check_record(kept, "openai", "openai", "openai")


def test_a_refusal_over_http2_is_an_ordinary_answer(over_http2):
    saw = over_http2.saw("wrong_key")
    assert (saw["status"], saw["code"]) == (401, "invalid_credential")
    over_http2.assert_no_surplus()
