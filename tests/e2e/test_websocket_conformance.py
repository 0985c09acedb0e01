"""The conversations of the Autobahn TestSuite with an echo server, directly and through the gateway: no worse."""

import asyncio

import pytest

from harness.conformance import EchoServer, run_all
from harness.conformance_cases import CASES
from harness.gateway import Gateway


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What became of every case, directly and through the gateway."""
    server = EchoServer()
    with Gateway(tmp_path_factory.mktemp("conformance"), server.url, system={"log_level": "error"}) as gateway:
        directly = asyncio.run(run_all(CASES, f"{server.url}/echo", {}))
        through = asyncio.run(run_all(CASES, f"{gateway.base_url}/echo", gateway.bearer()))
        yield directly, through, gateway
    server.stop()


@pytest.mark.parametrize("number", [case.number for case in CASES])
def test_case(results, number):
    directly, through, _ = results
    alone, proxied = directly[number], through[number]
    assert alone.is_failure() or not proxied.is_failure(), f"{proxied.behaviour}: {proxied.saw}; directly: {alone.saw}"
    assert not alone.is_closed_well() or proxied.is_closed_well(), (
        f"{proxied.closing}: {proxied.saw}; directly: {alone.saw}"
    )


def test_the_server_itself_is_sound_so_that_the_comparison_says_something(results):
    directly, _, _ = results
    failures = {number for number, result in directly.items() if result.is_failure() or not result.is_closed_well()}
    # To a close frame in the middle of a message it answers 1002.
    assert failures == {"7.1.5"}


def test_every_conversation_left_one_record(results):
    _, _, gateway = results
    records = gateway.records.wait_for(len(CASES), within=10)
    assert {(record["status"], record["protocol"]) for record in records} == {(101, "websocket")}
