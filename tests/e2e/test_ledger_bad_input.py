"""A ledger that is broken, unreachable, newer or poisoned: calls go on, and a person is told what to do."""

import json
import signal
import sqlite3
import uuid

import pytest

from harness import binary, http1
from harness.admin import Admin, with_token
from harness.databases import MariaDb, Postgres, Sqlite, assert_sums_agree, free_port
from harness.polling import until
from harness.upstream import CHAT, plain


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


def started(serve, upstreams, **system):
    """A gateway in front of an upstream that answers, and its admin side."""
    token, system = with_token(**system)
    gateway = serve(upstreams(plain(CHAT)).url, system=system)
    return gateway, Admin(gateway, token)


def errors(gateway):
    """The lines of its log that are worse than information."""
    lines = [json.loads(line) for line in gateway.process.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] in ("WARN", "ERROR")]


def told(gateway, *words, within=10):
    """The first warning or error that has all these words."""

    def line():
        return next((line for line in errors(gateway) if all(word in json.dumps(line) for word in words)), None)

    return until(line, within, f"a message with {words}; there is {errors(gateway)}")


def ledger_problems(gateway):
    answer = http1.call(gateway.base_url, "GET", "/ready")
    assert answer.status == 200, "a gateway with a broken ledger serves, and says so"
    return answer.json()["ledger"]


GARBAGE = {
    "no database at all": lambda good: b"this is not a database" * 500,
    "a broken header": lambda good: b"\x00" * 100 + good[100:],
    "broken pages": lambda good: good[:4096] + b"\xaa" * (len(good) - 4096),
    "cut off": lambda good: good[: len(good) // 2],
}


@pytest.mark.parametrize("damage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_broken_sqlite_file_is_moved_aside_and_a_new_one_begun(serve, upstreams, damage):
    """Given a gateway with records that was stopped, when its database is damaged, then it starts and goes on."""
    gateway, admin = started(serve, upstreams)
    for _ in range(5):
        assert http1.chat(gateway).status == 200
    admin.settled(5)
    gateway.finish()
    data = gateway.directory / "data"
    database = data / "aiproxy.db"
    fold_in(database)
    broken = damage(database.read_bytes())
    database.write_bytes(broken)
    gateway.restart()
    new = {http1.chat(gateway).request_id for _ in range(4)}
    line = told(gateway, "moved aside")
    assert line["level"] == "ERROR"
    (aside,) = (path for path in data.glob("aiproxy.db.corrupt-*") if not path.name.endswith(("-wal", "-shm")))
    assert line["moved_to"] == str(aside) and len(aside.read_bytes()) >= len(broken)
    until(lambda: new <= known_to(admin), 15, "the new database has the new calls")
    gateway.finish()
    assert_sums_agree(Sqlite(database))
    in_file = [kept["id"] for kept in gateway.records.all()]
    assert len(in_file) == len(set(in_file)) == 9, "the file has all of them once"


def fold_in(database):
    """Put what is in SQLite's write-ahead log into the file itself."""
    opened = sqlite3.connect(database)
    opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    opened.close()


def known_to(admin):
    """The ids of the records in the database, once it answers."""
    answer = admin.get("/admin/api/v1/records")
    return {kept["id"] for kept in answer.json()["records"]} if answer.status == 200 else set()


def make_newer(path):
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO schema_versions (version, applied_at_ms) VALUES (999, 0)")
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(serve, upstreams):
    gateway, admin = started(serve, upstreams)
    http1.chat(gateway)
    admin.settled(1)
    gateway.finish()
    database = gateway.directory / "data/aiproxy.db"
    make_newer(database)
    gateway.restart()
    for _ in range(3):
        assert http1.chat(gateway).status == 200
    line = told(gateway, "newer AIProxy", "999", "update the binary")
    assert line["level"] == "ERROR"
    unavailable = admin.get("/admin/api/v1/statistics/summary")
    assert unavailable.status == 503 and unavailable.json()["error"]["code"] == "database_unavailable"
    assert len(Sqlite(database).rows()) == 1, "nothing was written"
    gateway.finish()
    with sqlite3.connect(database) as opened:
        opened.execute("DELETE FROM schema_versions WHERE version = 999")
    opened.close()
    gateway.restart()
    assert admin.settled(4)["calls"] == 4, "what waited in the journal is there"


def test_a_database_that_cannot_be_used_is_told_and_waited_for(serve, upstreams, postgres, mariadb):
    """Given a host, a password or a database that is wrong, then calls go on and nobody sees the password."""
    wrong = {
        "postgres://aiproxy:wrong-pass%40word@no-such-host.invalid:5432/aiproxy": ["no-such-host.invalid"],
        f"postgres://aiproxy:wrong-pass@127.0.0.1:{postgres.port}/nowhere": ["nowhere", "createdb"],
        f"mysql://aiproxy:wrong-pass@127.0.0.1:{mariadb.port}/aiproxy": ["user and password", "aiproxy"],
    }
    running = [(*started(serve, upstreams, database=url), words) for url, words in wrong.items()]
    for gateway, _, _ in running:
        assert [http1.chat(gateway).status for _ in range(5)] == [200] * 5
    for gateway, admin, words in running:
        line = json.dumps(told(gateway, "takes nothing", *words))
        short = json.dumps(until(lambda gateway=gateway: ledger_problems(gateway), 20, "/ready says so"))
        assert "database" in short and "127.0.0.1" not in short and "invalid" not in short, "anyone may read it"
        problems = json.dumps(admin.json("/admin/api/v1/status")["ledger"]["problems"])
        assert all(word in problems for word in words), problems
        unavailable = admin.get("/admin/api/v1/statistics/summary")
        assert unavailable.status == 503 and unavailable.json()["error"]["code"] == "database_unavailable"
        for text in (line, problems, gateway.process.log(), unavailable.body.decode()):
            assert "wrong-pass" not in text
        assert len(gateway.records.wait_for(5)) == 5, "another sink has them"
    # All at once: each waits a few seconds for its database before it leaves the rest to the journal.
    for waiting, _, _ in running:
        waiting.process.signal(signal.SIGTERM)
    # Once it is right, nothing is missing.
    gateway.finish()
    gateway.config["system"]["database"] = mariadb.url()
    gateway.write_config()
    gateway.restart()
    assert admin.settled(5, within=20)["calls"] == 5


def ids_of(body):
    return [record["id"] for record in json.loads(body)["records"]]


def test_a_poison_record_is_set_aside_and_the_rest_goes_on(serve, upstreams):
    """Given a receiver that answers 400 to every batch with one record in it, then it gets all the others."""
    taken = []

    def answer(request, connection):
        if b"/v1/poison" in request.body:
            return plain({"error": "no"}, status="400 Bad Request")(request, connection)
        taken.extend(ids_of(request.body))
        return plain({})(request, connection)

    receiver = upstreams(answer)
    hook = {"name": "billing", "url": receiver.url, "interval": "500ms", "batch": 50}
    log = {"console": False, "file": {"path": "records.jsonl"}, "webhook": hook}
    gateway, _ = started(serve, upstreams, log=log)
    answers = [http1.chat(gateway) for _ in range(11)]
    poison = http1.call(gateway.base_url, "POST", "/v1/poison", gateway.bearer(), http1.chat_body())
    answers += [http1.chat(gateway) for _ in range(14)]
    expected = {answer.request_id for answer in answers}
    until(lambda: set(taken) >= expected, 15, "the rest is delivered")
    rejected = gateway.directory / "data/journal/rejected/billing.jsonl"
    until(rejected.exists, 5, "it is set aside")
    (line,) = rejected.read_text().splitlines()
    assert json.loads(line)["id"] == poison.request_id
    assert json.loads(line) == gateway.records.of(poison.request_id), "as every sink has it"
    assert poison.request_id not in taken and len(taken) == len(set(taken)) == len(expected)
    assert str(rejected.name) in json.dumps(told(gateway, "set aside", "400"))
    after = http1.chat(gateway).request_id
    until(lambda: after in taken, 10, "new records go on")


def test_a_receiver_whose_url_is_wrong_gets_everything_once_it_is_right(serve, upstreams):
    """404 is no record's fault: nothing is set aside."""
    state, taken = ["404 Not Found"], []

    def answer(request, connection):
        if state[0].startswith("200"):
            taken.extend(ids_of(request.body))
        return plain({}, status=state[0])(request, connection)

    receiver = upstreams(answer)
    log = {"console": False, "file": {"path": "records.jsonl"}, "webhook": {"url": receiver.url, "interval": "50ms"}}
    gateway, _ = started(serve, upstreams, log=log)
    sent = {http1.chat(gateway).request_id for _ in range(5)}
    told(gateway, "takes nothing", "404")
    state[0] = "200 OK"
    until(lambda: set(taken) == sent, 15, "all of them")
    assert not (gateway.directory / "data/journal/rejected").exists()


def frames(segment):
    """The content of a segment, and where its frames begin."""
    content, at, found = segment.read_bytes(), 0, []
    while (at := content.find(b"\xf5AI\xf6", at)) >= 0:
        found.append(at)
        at += 1
    return content, found


def damage(segment, where, sent):
    """Change bytes of a segment. Returns the ids of the records that are lost with them."""
    content, places = frames(segment)
    assert len(places) >= 10
    changed, middle = bytearray(content), len(places) // 2
    if where == "in the middle":
        hit = [middle]
        changed[places[middle] + 40 : places[middle] + 70] = bytes(30)
    elif where == "over a boundary":
        hit = [middle - 1, middle]
        changed[places[middle] - 10 : places[middle] + 20] = b"\xff" * 30
    else:
        hit = [len(places) - 1]
        del changed[places[-1] + 50 :]
    segment.write_bytes(changed)
    ends = [*places[1:], len(content)]
    return {name for name in sent for frame in hit if uuid.UUID(name).bytes in content[places[frame] : ends[frame]]}


DAMAGE = [("in the middle", "damaged"), ("over a boundary", "damaged"), ("the end", "torn")]


@pytest.mark.parametrize("where,word", DAMAGE, ids=[where for where, _ in DAMAGE])
def test_a_damaged_journal_is_read_around_the_damage(serve, upstreams, where, word):
    """Given records that no sink took, when bytes of the journal change, then all other records arrive."""
    hook = {"name": "billing", "url": f"http://127.0.0.1:{free_port()}/records", "interval": "50ms"}
    log = {"console": False, "database": False, "webhook": hook}
    gateway, _ = started(serve, upstreams, log=log)
    sent = {http1.chat(gateway).request_id for _ in range(40)}
    gateway.process.signal(signal.SIGKILL)
    gateway.process.wait()
    segment = max((gateway.directory / "data/journal").glob("*.journal"), key=lambda path: path.stat().st_size)
    lost = damage(segment, where, sent)
    assert 1 <= len(lost) <= 2
    taken = []

    def answer(request, connection):
        taken.extend(ids_of(request.body))
        return plain({})(request, connection)

    hook["url"] = upstreams(answer).url
    gateway.config["system"]["log"]["webhook"] = hook
    gateway.write_config()
    gateway.restart()
    sent.add(http1.chat(gateway).request_id)
    expected = sent - lost
    until(lambda: set(taken) >= expected, 15, "what is sound arrives")
    assert set(taken) == expected and len(taken) == len(expected)
    told(gateway, "journal", word)


BAD = """\
users:
  alice:
    proxy_key: pk-test-alice
    channels: [openai]
    quotas:
      - {unit: cost, per: month, amount: 0}
      - {unit: calls, per: month, amount: 5}
channels:
  openai:
    base_url: https://api.openai.com
    api_key: sk-test-openai
    capture: 1.5
system:
  timezone: Mars/Olympus
  database: oracle://scott:secret-tiger@db/x
  client_abort: {policy: drain, timeout: 0s}
  retention: 5 parsecs
  redact: ['(unclosed']
  journal: {segment_size: 1KiB}
  prices:
    currency: dollars
    models:
      gpt-4o: {input: -1}
  log:
    webhook: {url: "ftp://example.com", secret: secret-hmac}
"""

# Where each problem of that file is.
BAD_PLACES = {
    "users.alice.quotas[0].amount",
    "users.alice.quotas[1].unit",
    "channels.openai.capture",
    "system.timezone",
    "system.database",
    "system.client_abort",
    "system.retention",
    "system.redact[0]",
    "system.journal.segment_size",
    "system.prices.currency",
    "system.prices.models.gpt-4o",
    "system.log.webhook",
}


def test_check_finds_every_mistake_about_the_ledger(tmp_path):
    (tmp_path / "aiproxy.yaml").write_text(BAD)
    finished = binary.run("check", "-c", "aiproxy.yaml", "--output", "json", cwd=tmp_path)
    assert finished.returncode == 1
    found = [problem for problem in json.loads(finished.stdout) if problem["severity"] == "error"]
    paths = [problem["path"] for problem in found]
    missing = {place for place in BAD_PLACES if not any(path.startswith(place) for path in paths)}
    surplus = [path for path in paths if not any(path.startswith(place) for place in BAD_PLACES)]
    assert (missing, surplus) == (set(), []), found
    lines = BAD.splitlines()
    for problem in found:
        name = problem["path"].rstrip("]").split(".")[-1].split("[")[0]
        assert name in lines[problem["line"] - 1] or name in lines[problem["line"] - 2], problem
    assert "secret-tiger" not in finished.stdout + finished.stderr, "no password is printed"
    assert "secret-hmac" not in finished.stdout + finished.stderr
