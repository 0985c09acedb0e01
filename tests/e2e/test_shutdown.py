"""SIGTERM: unready first, running calls finish, then exit 0."""

import signal

from harness import http1
from harness.polling import until
from harness.upstream import HeldStream


def readiness(gateway):
    """Status of /ready, or `refused` once nothing listens."""
    try:
        return http1.call(gateway.base_url, "GET", "/ready").status
    except OSError:
        return "refused"


def test_a_running_stream_completes_and_the_process_exits_0(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    running = http1.OpenStream(gateway, stream_options={"include_usage": True})
    stream.event("one")
    running.head()
    running.read_until(b"one")
    assert readiness(gateway) == 200

    gateway.process.signal(signal.SIGTERM)
    assert until(lambda: (now := readiness(gateway)) != 200 and now, 2, "it is unready") in (503, "refused")
    stream.event("two, after the signal")
    running.read_until(b"two, after the signal")
    assert gateway.process.popen.poll() is None, "it waits for the stream"
    stream.finish()
    assert b"[DONE]" in running.rest()
    running.close()

    assert gateway.process.wait() == 0
    kept = gateway.records.one()
    assert (kept["status"], kept["end"]) == (200, "complete")


def test_ready_turns_503_before_the_port_closes(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    running = http1.OpenStream(gateway)
    stream.event("one")
    running.head()
    gateway.process.signal(signal.SIGTERM)
    seen = []

    def closed():
        seen.append(readiness(gateway))
        return seen[-1] in (503, "refused")

    until(closed, 2, "it is unready")
    assert 503 in seen, f"a load balancer must be told before connections are refused: {seen[-1]}"
    stream.finish()
    running.close()


def test_calls_that_outlast_the_deadline_are_cut_and_recorded_as_such(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url, system={"shutdown_timeout": "500ms"})
    running = http1.OpenStream(gateway)
    stream.event("one")
    running.head()
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait(10) == 0
    assert gateway.records.one()["end"] == "shutdown"
    running.close()


def test_an_idle_gateway_stops_at_once(gateway):
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait(5) == 0


def test_ctrl_c_stops_it_as_well(gateway):
    gateway.process.signal(signal.SIGINT)
    assert gateway.process.wait(5) == 0
