"""Every call once, whatever breaks: the ledger is held against the upstream's own count.

Short by default. `make test-faults` runs it in full (AIPROXY_FAULT_KILLS=50): a process that is killed 50 times, and
longer outages.
"""

import json
import os
import random
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet
import pytest

from harness import secrets
from harness.databases import MariaDb, Postgres, Sqlite, Wire, assert_sums_agree, free_port
from harness.gateway import Gateway
from harness.polling import until
from harness.served import CountingUpstream, Load, assert_equal, assert_exactly_once
from harness.webhook import WebhookReceiver, row_of

KILLS = int(os.environ.get("AIPROXY_FAULT_KILLS", "6"))
OUTAGE = 8 if KILLS >= 50 else 2
CATCHING_UP = 60


@pytest.fixture
def upstream():
    counting = CountingUpstream()
    yield counting
    counting.stop()


@pytest.fixture
def receiver():
    receiving = WebhookReceiver("not-a-real-secret")
    yield receiving
    receiving.stop()


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def mariadb():
    server = MariaDb()
    yield server
    server.remove()


class Restartable:
    """A gateway that is started again and again on the same port and data."""

    def __init__(self, directory, upstream, **log):
        self.directory = directory
        self.port = free_port()
        system = {"listen": f"127.0.0.1:{self.port}", "log": {"console": False, "file": {"path": "records.jsonl"}}}
        system["log"].update(log.pop("log", {}))
        system.update(log)
        self.system = system
        self.upstream = upstream
        self.real_key = secrets.canary("real")
        self.gateway = None

    def start(self):
        if self.gateway is None:
            self.gateway = Gateway(self.directory, self.upstream.url, real_key=self.real_key, system=self.system)
        else:
            self.gateway.restart()
        return self.gateway

    @property
    def key(self):
        return self.gateway.keys["openai"]

    def file_rows(self):
        return [row_of(record) for record in all_lines(self.directory / "data")]


def all_lines(directory):
    """The records of the file and of those it was rotated to."""
    for path in sorted(directory.glob("records.jsonl*")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if "type" not in record:
                yield record


def served_to(rows, upstream):
    """Whether as many answers are there as were served."""
    return len([row for row in rows if row[1]]) >= len(upstream.served)


def kill_under_load(gateway, upstream, kills):
    """Kill the process at random moments under load. Ends politely; returns what callers saw."""
    dice = random.Random(kills)
    process = gateway.start().process
    load = Load(gateway.port, gateway.key)
    for number in range(kills):
        floor = load.count()
        until(lambda: load.count() > floor + dice.randrange(5, 200), 30, f"calls after kill {number}")
        time.sleep(dice.random() / 10)
        process.signal(signal.SIGKILL)
        process.wait()
        process = gateway.start().process
    floor = load.count()
    until(lambda: load.count() > floor + 50, 30, "calls after the last kill")
    seen = load.stop()
    gateway.gateway.finish()
    assert len(seen) > kills, f"{load.statuses}, {load.broken} broken"
    assert set(load.statuses) == {200}, load.statuses
    return seen


def test_killed_at_random_every_answer_that_was_seen_is_in_every_sink_once(tmp_path, upstream, receiver):
    webhook = {"url": receiver.url, "secret": "not-a-real-secret", "interval": "100ms"}
    file = {"path": "records.jsonl", "max_size": "256KiB", "keep": 100}
    gateway = Restartable(tmp_path / "gateway", upstream, log={"webhook": webhook, "file": file, "parquet": True})
    seen = kill_under_load(gateway, upstream, KILLS)
    sqlite = Sqlite(tmp_path / "gateway/data/aiproxy.db")
    for rows in (gateway.file_rows(), sqlite.rows(), receiver.rows(), parquet_rows(tmp_path / "gateway/data/parquet")):
        assert_exactly_once(rows, upstream.served, seen)
    assert sorted(row[1:] for row in gateway.file_rows()) == sorted(row[1:] for row in sqlite.rows())
    assert receiver.bad_signatures == 0
    assert_sums_agree(sqlite)


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_killed_at_random_a_database_server_has_every_answer_once(tmp_path, upstream, name, request):
    server = request.getfixturevalue(name)
    gateway = Restartable(tmp_path / "gateway", upstream, database=server.url())
    seen = kill_under_load(gateway, upstream, max(KILLS // 5, 3))
    assert_exactly_once(server.rows(), upstream.served, seen)
    assert_sums_agree(server)


@pytest.mark.parametrize("fault", ["refuse", "hole", "killed"])
@pytest.mark.parametrize("kind", [Postgres, MariaDb])
def test_a_database_that_is_away_costs_nothing_but_time(tmp_path, upstream, kind, fault):
    server = kind()
    wire = Wire(server.port)
    gateway = Restartable(tmp_path / "gateway", upstream, database=server.url(wire.port))
    try:
        gateway.start()
        load = Load(gateway.port, gateway.key)
        until(lambda: load.count() > 100, 30, "calls before")
        if fault == "killed":
            server.stop()
        else:
            wire.set(fault)
        floor = load.count()
        until(lambda: load.count() > floor + 100, 30, "calls while the database is away")
        time.sleep(OUTAGE)
        if fault == "killed":
            server.start()
        else:
            wire.set("open")
        load.stop()
        assert set(load.statuses) == {200}, load.statuses
        assert load.broken == 0
        until(lambda: served_to(server.rows(), upstream), CATCHING_UP, "the database catches up")
        gateway.gateway.finish()
        assert_equal(server.rows(), upstream.served)
        assert_equal(gateway.file_rows(), upstream.served)
        assert_sums_agree(server)
    finally:
        wire.stop()
        server.remove()


def test_a_database_that_was_never_there_keeps_nobody_from_starting(tmp_path, upstream):
    port = free_port()
    url = f"postgres://aiproxy:a-secret-password@127.0.0.1:{port}/aiproxy"
    gateway = Restartable(tmp_path / "gateway", upstream, database=url)
    running = gateway.start()
    load = Load(gateway.port, gateway.key, callers=2)
    until(lambda: load.count() > 20, 30, "calls without a database")
    load.stop()
    assert set(load.statuses) == {200}
    log = until(lambda: "database" in running.process.log() and running.process.log(), 10, "a message")
    assert "a-secret-password" not in log
    assert f"nothing answers at 127.0.0.1:{port}" in log, log[-1500:]
    running.finish()
    assert_equal(gateway.file_rows(), upstream.served)


@pytest.mark.parametrize("fault", ["fail", "hang"])
def test_a_webhook_that_is_away_gets_everything_later(tmp_path, upstream, receiver, fault):
    webhook = {"url": receiver.url, "secret": "not-a-real-secret", "interval": "50ms", "timeout": "2s", "batch": 50}
    gateway = Restartable(tmp_path / "gateway", upstream, log={"webhook": webhook})
    gateway.start()
    load = Load(gateway.port, gateway.key)
    until(lambda: load.count() > 50 and receiver.records, 30, "calls before")
    receiver.state = fault
    floor = load.count()
    until(lambda: load.count() > floor + 100, 30, "calls while the receiver is away")
    time.sleep(OUTAGE)
    receiver.state = "take"
    load.stop()
    until(lambda: served_to(receiver.rows(), upstream), CATCHING_UP, "the receiver catches up")
    gateway.gateway.finish()
    assert set(load.statuses) == {200}
    assert_equal(receiver.rows(), upstream.served)
    assert receiver.bad_signatures == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    directory = tmp_path / "gateway"
    (directory / "data").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory / "data")]
    root = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*root, *mount], check=True)
    yield directory
    subprocess.run([*root, "umount", "-l", str(directory / "data")], check=True)


def fill(directory):
    """Leave not one byte."""
    path = Path(directory) / "data" / "filler"
    with path.open("wb", buffering=0) as file:
        block = b"x" * 65536
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
    return path


def ready(gateway):
    with urllib.request.urlopen(f"{gateway.gateway.base_url}/ready", timeout=10) as response:
        return json.load(response)


def test_a_full_disk_loses_nothing_while_memory_lasts(small_disk, upstream):
    gateway = Restartable(small_disk, upstream, journal={"segment_size": "1MiB"})
    gateway.start()
    load = Load(gateway.port, gateway.key)
    until(lambda: load.count() > 100, 30, "calls before")
    filler = fill(small_disk)
    floor = load.count()
    until(lambda: load.count() > floor + 500, 60, "calls while the disk is full")
    until(lambda: ready(gateway)["ledger"], 20, "the gateway says so")
    filler.unlink()
    load.stop()
    assert set(load.statuses) == {200} and load.broken == 0, load.statuses
    sqlite = Sqlite(small_disk / "data/aiproxy.db")
    until(lambda: served_to(sqlite.rows(), upstream), CATCHING_UP, "SQLite catches up")
    until(lambda: served_to(gateway.file_rows(), upstream), CATCHING_UP, "the file catches up")
    until(lambda: not ready(gateway)["ledger"], 20, "all is well again")
    gateway.gateway.finish()
    assert_equal(sqlite.rows(), upstream.served)
    assert_equal(gateway.file_rows(), upstream.served)
    assert_sums_agree(sqlite)


def test_when_memory_is_full_too_calls_are_refused_where_that_is_asked_for(small_disk, upstream):
    journal = {"segment_size": "1MiB", "memory": "1MiB", "on_full": "refuse"}
    gateway = Restartable(small_disk, upstream, journal=journal, log={"file": None, "database": False})
    gateway.start()
    until(lambda: ready(gateway), 10, "ready")
    filler = fill(small_disk)
    load = Load(gateway.port, gateway.key)
    until(lambda: load.statuses.get(503), 120, "a refusal")
    filler.unlink()
    answered = load.statuses.get(200, 0)
    until(lambda: load.statuses.get(200, 0) > answered + 50, 30, "calls once there is room")
    load.stop()
    assert set(load.statuses) == {200, 503}
    assert not [problem for problem in ready(gateway)["ledger"] if "lost" in problem]
    gateway.gateway.finish()


def test_a_data_directory_that_cannot_be_written_keeps_nobody_from_starting(tmp_path, upstream):
    """Root may write everywhere, so a file stands where the journal's directory should be."""
    (tmp_path / "gateway/data").mkdir(parents=True)
    (tmp_path / "gateway/data/journal").write_text("in the way")
    gateway = Restartable(tmp_path / "gateway", upstream, log={"console": True, "file": None, "database": False})
    process = gateway.start().process
    load = Load(gateway.port, gateway.key, callers=2)
    until(lambda: load.count() > 50, 30, "calls")
    load.stop()
    assert "journal" in " ".join(ready(gateway)["ledger"])
    gateway.gateway.finish()
    lines = [json.loads(line) for line in process.log().splitlines() if line.startswith('{"id"')]
    assert_equal([row_of(line) for line in lines], upstream.served)


def parquet_rows(directory):
    """What a reader of Parquet finds, file by file."""
    rows = []
    for path in sorted(Path(directory).glob("logs_*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["id", "upstream_request_id", "usage_input", "usage_output"])
        rows += [tuple(row.values()) for row in table.to_pylist()]
    return rows
