"""SIGUSR2: a new process takes the listening socket over, and no caller notices."""

import os
import signal
import threading
import time
from pathlib import Path

from harness import http1
from harness.polling import until
from harness.upstream import CHAT, HeldStream, plain


class Load:
    """Callers that never pause, each call on a connection of its own."""

    def __init__(self, gateway, callers=3):
        self.gateway = gateway
        self.statuses = []
        self.failures = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._call_on_and_on) for _ in range(callers)]
        for thread in self.threads:
            thread.start()

    def _call_on_and_on(self):
        while not self.over.is_set():
            try:
                self.statuses.append(http1.chat(self.gateway).status)
            except Exception as error:  # whatever it is, a caller noticed
                self.failures.append(repr(error))

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def processes_of(gateway):
    """Every process that runs on this gateway's config file."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(gateway.config_path).encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def end(process_id):
    """Stop a process that is not ours to wait for."""
    try:
        os.kill(process_id, signal.SIGTERM)
    except ProcessLookupError:
        return
    until(lambda: not Path(f"/proc/{process_id}").exists() or is_zombie(process_id), 20, "the successor ends")


def is_zombie(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_new_process_takes_over_under_load_without_one_failed_call(serve, upstreams):
    stream = HeldStream()
    ordinary = plain(CHAT)

    def answer(request, connection):
        return (stream if b'"stream": true' in request.body else ordinary)(request, connection)

    gateway = serve(upstreams(answer).url)
    old = gateway.process.popen.pid
    running = http1.OpenStream(gateway, stream_options={"include_usage": True})
    stream.event("before")
    running.head()
    running.read_until(b"before")
    load = Load(gateway)
    try:
        until(lambda: len(load.statuses) > 50, 10, "the load is on")
        gateway.process.signal(signal.SIGUSR2)
        (new,) = until(lambda: processes_of(gateway) - {old}, 10, "a successor runs")
        during = len(load.statuses)
        until(lambda: len(load.statuses) > during + 100, 10, "calls go on")
        assert gateway.process.popen.poll() is None, "the old process waits for its stream"

        stream.event("after the hand-over")
        running.read_until(b"after the hand-over")
        stream.finish()
        assert b"[DONE]" in running.rest()
        running.close()
        assert gateway.process.wait() == 0
        after = len(load.statuses)
        until(lambda: len(load.statuses) > after + 100, 10, "the successor serves alone")
    finally:
        load.stop()
        for process_id in processes_of(gateway) - {old}:
            end(process_id)

    assert load.failures == []
    assert set(load.statuses) == {200}
    assert new != old
    records = gateway.records.all()
    assert len(records) == len(load.statuses) + 1, "every call of both processes is recorded exactly once"
    assert len({kept["id"] for kept in records}) == len(records)


def test_a_successor_that_cannot_start_leaves_the_old_process_serving(serve, demo_upstream):
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key)
    gateway.config["nonsense"] = True
    gateway.write_config()
    until(lambda: "nonsense" in gateway.process.log(), 5, "the broken file is noticed")
    gateway.process.signal(signal.SIGUSR2)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert http1.chat(gateway).status == 200
    assert gateway.process.popen.poll() is None
    assert processes_of(gateway) == {gateway.process.popen.pid}
