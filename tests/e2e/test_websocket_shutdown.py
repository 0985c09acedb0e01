"""Sockets when the gateway stops, dies or hands over: told to come back, and nothing of their usage lost."""

import signal
import time

import pytest

from harness.polling import until
from harness.websocket import CLOSE, Peer, Sockets, check_record, connect, dial, opened
from harness.websocket_dialects import (
    DASHSCOPE,
    GEMINI,
    OPENAI,
    as_binary,
    realtime_usage,
    response_created,
    response_done,
    run_task,
    task_event,
    turn,
)
from test_handover import end, processes_of

PRICES = {"models": {"demo-realtime": {"input": 1, "output": 2}}}


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


def use(client, provider, text_in, text_out):
    provider.say(**response_done(realtime_usage(text_in, text_out)))
    assert client.hear()["type"] == "response.done"


@pytest.mark.parametrize("path,user", [(OPENAI, "openai"), (DASHSCOPE, "dashscope"), (GEMINI, "gemini")])
def test_an_idle_socket_is_told_to_come_back(serve, upstreams, sockets, path, user):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, path, user)
    gateway.process.signal(signal.SIGTERM)
    while (got := client.frame()).opcode != CLOSE:
        pass
    assert got.code == 1012 and got.reason
    client.close(1012)
    assert provider.closing().code in (1000, 1001)
    assert gateway.process.wait(10) == 0
    kept = gateway.records.one()
    assert (kept["status"], kept["end"]) == (101, "shutdown")


def test_a_busy_socket_may_finish_its_response(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(type="response.create")
    provider.hear()
    provider.say(**response_created())
    assert client.hear()["type"] == "response.created"
    gateway.process.signal(signal.SIGTERM)
    assert client.is_silent(0.8), "it waits for the response"
    provider.say(type="response.output_text.delta", delta="hi")
    assert client.hear()["delta"] == "hi"
    provider.say(**response_done(realtime_usage(10, 5), "resp_open"))
    assert client.hear_until(type="response.done")
    assert client.closing().code == 1012
    provider.closing()
    assert gateway.process.wait(10) == 0
    kept = gateway.records.one()
    assert kept["usage"]["input"] == 10 and kept["usage"]["output"] == 5


def test_a_socket_that_outlasts_the_deadline_is_cut_with_its_usage(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, system={"shutdown_timeout": "500ms"})
    client, provider = opened(gateway, sockets, OPENAI)
    use(client, provider, 10, 5)
    client.say(type="response.create")
    provider.hear()
    provider.say(**response_created())
    client.hear()
    began = time.monotonic()
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait(10) == 0
    assert time.monotonic() - began < 8
    kept = gateway.records.one()
    assert kept["end"] == "shutdown" and kept["usage"]["input"] == 10


def held_on_disk(gateway, name):
    """Whether something under the data directory speaks of a call, besides its record."""
    spellings = (name.encode(), bytes.fromhex(name.replace("-", "")), name.replace("-", "").encode())
    for path in gateway.directory.joinpath("data").rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() and path != gateway.records.path else b""
        except FileNotFoundError:
            continue  # A database's journal comes and goes.
        if any(spelling in content for spelling in spellings):
            return True
    return False


def kill_and_restart(gateway):
    gateway.process.signal(signal.SIGKILL)
    gateway.process.wait()
    gateway.restart()


def test_a_killed_gateway_leaves_the_usage_of_its_open_sockets(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, system={"prices": PRICES})
    client, provider = opened(gateway, sockets, OPENAI)
    use(client, provider, 100, 10)
    use(client, provider, 50, 5)
    name = client.response["x-request-id"]
    until(lambda: held_on_disk(gateway, name), 3, "its state so far is on disk")
    assert client.is_silent(1.2), "the state is written at most once per second: the second response is in it now"
    kill_and_restart(gateway)
    kept = gateway.records.of(name)
    assert (kept["end"], kept["status"], kept["usage_source"]) == ("shutdown", 101, "provider")
    assert (kept["usage"]["input"], kept["usage"]["output"], kept["cost"]) == (150, 15, 180)
    assert kept["user_id"] == "openai" and kept["model_asked"] == "demo-realtime"
    client.leave()
    provider.leave()

    # The next one starts clean: neither a second record of the first socket, nor one too few of its own.
    with connect(gateway, OPENAI) as again:
        provider = sockets.next()
        use(again, provider, 7, 3)
        again.close()
        provider.closing()
        again.next(CLOSE)
    records = gateway.records.wait_for(2)
    assert [record["usage"]["input"] for record in records] == [150, 7]
    kill_and_restart(gateway)
    assert len(gateway.records.wait_for(2)) == 2


def test_a_killed_gateway_leaves_a_record_of_tasks_and_turns_too(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    task, its_provider = opened(gateway, sockets, DASHSCOPE, "dashscope")
    live, their_provider = opened(gateway, sockets, GEMINI, "gemini")
    task.say(**run_task("demo-voice"))
    its_provider.hear()
    its_provider.say(**task_event("result-generated", usage={"characters": 9}))
    task.hear()
    their_provider.binary(as_binary(turn(11, 7)))
    live.hear()
    for client in (task, live):
        until(lambda client=client: held_on_disk(gateway, client.response["x-request-id"]), 3, "its state is on disk")
    kill_and_restart(gateway)
    first, second = gateway.records.wait_for(2)
    assert (first["usage"]["characters"], first["end"]) == (9, "shutdown")
    assert (second["usage"]["input"], second["usage"]["output"], second["end"]) == (11, 7, "shutdown")
    for peer in (task, live, its_provider, their_provider):
        peer.leave()


def test_a_socket_that_ended_properly_is_recorded_once_even_if_the_gateway_dies_after(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, OPENAI)
    use(client, provider, 10, 5)
    name = client.response["x-request-id"]
    until(lambda: held_on_disk(gateway, name), 3, "its state so far is on disk")
    client.close()
    provider.closing()
    client.next(CLOSE)
    gateway.records.of(name)
    kill_and_restart(gateway)
    check_record(gateway.records.one(), "openai", "openai", "openai")


def try_connect(gateway):
    """A socket that stays open, or None where the old process took the call and says that it is about to stop."""
    peer = dial(gateway, OPENAI)
    if isinstance(peer, Peer):
        return peer if peer.is_silent(0.8) else None
    assert (peer.status, peer.code()) == (503, "draining") and peer.headers["retry-after"]
    return None


def two_uses(gateway):
    """What the sockets used that used anything, once there are two."""
    found = [record["usage"]["input"] for record in gateway.records.all() if record["usage"]]
    return found if len(found) == 2 else None


def test_a_hand_over_keeps_a_busy_socket_until_its_response_is_done(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url)
    old = gateway.process.popen.pid
    client, provider = opened(gateway, sockets, OPENAI)
    client.say(type="response.create")
    provider.hear()
    provider.say(**response_created())
    client.hear()
    gateway.process.signal(signal.SIGUSR2)
    try:
        until(lambda: processes_of(gateway) - {old}, 10, "a successor runs")
        until(lambda: "a new process serves" in gateway.process.log(), 10, "the old process takes no new calls")
        provider.say(type="response.output_text.delta", delta="hi")
        assert client.hear()["delta"] == "hi"
        newcomer = until(lambda: try_connect(gateway), 5, "the successor opens sockets")
        while not sockets.none_opened():
            their_provider = sockets.next()
        use(newcomer, their_provider, 7, 3)
        provider.say(**response_done(realtime_usage(10, 5), "resp_open"))
        assert client.hear_until(type="response.done")
        assert client.closing().code == 1012
        provider.closing()
        assert gateway.process.wait(10) == 0
        newcomer.assert_open()
        newcomer.close()
        their_provider.closing()
        newcomer.next(CLOSE)
        used = until(lambda: two_uses(gateway), 5, "a record of each socket")
        assert used == [10, 7]
    finally:
        for process_id in processes_of(gateway) - {old}:
            end(process_id)
