"""Stored bodies: readable, bounded, and without a secret in any place where they are written."""

import base64
import gzip
import json
import time

import pytest

from harness import http1, secrets
from harness.admin import Admin, with_token
from harness.databases import Sqlite
from harness.polling import until
from harness.upstream import CHAT, plain

PATTERN = r"project-canary-[0-9a-f]+"
TAKEN = plain({})


class Captured:
    """A gateway that stores every body of the channel `openai`, with sinks of every kind that holds them."""

    def __init__(self, serve, upstreams, answer, capture=True):
        self.webhook = upstreams(TAKEN)
        hook = {"url": self.webhook.url, "interval": "50ms", "bodies": True}
        token, system = with_token(
            redact=[PATTERN],
            log={"console": True, "file": {"path": "records.jsonl"}, "webhook": hook, "parquet": {"interval": "1s"}},
        )
        self.upstream = upstreams(answer)
        self.gateway = serve(self.upstream.url, channels={"openai": {"capture": capture}}, system=system)
        self.admin = Admin(self.gateway, token)
        self.project = secrets.canary("project")
        self.secrets = [self.project, self.gateway.keys["openai"], self.gateway.real_key]

    def call(self, body, headers=None, path="/v1/chat/completions", user="openai"):
        headers = {**self.gateway.bearer(user), **(headers or {})}
        return http1.call(self.gateway.base_url, "POST", path, headers, body)

    def record(self, answer, within=10):
        """The record of a call with its bodies, as the API has it."""
        path = f"/admin/api/v1/records/{answer.request_id}"

        def found():
            answer = self.admin.get(path)
            return answer.json() if answer.status == 200 and answer.json()["bodies"] else None

        return until(found, within, "the bodies are in the database")

    def bodies(self, answer):
        return self.record(answer)["bodies"]

    def assert_nothing_leaked(self, calls):
        """Stop it, and look through everything that was written or sent."""
        until(lambda: len(self.in_file()) >= calls, 10, "the file has the bodies")
        self.gateway.finish()
        written = [path for path in self.gateway.directory.rglob("*") if path.is_file()]
        written.remove(self.gateway.config_path)
        assert {path.name for path in written} >= {"records.jsonl", "aiproxy.db", "stderr.txt"}
        assert list(self.gateway.directory.rglob("*.journal")) or list(self.gateway.directory.rglob("journal/*"))
        secrets.assert_none_in(written)
        sent = b"".join(request.body for request in self.webhook.requests)
        assert sent.count(b'"type":"bodies"') == calls or sent.count(b'"bodies":[{') > 0, sent[:2000]
        for secret in self.secrets:
            assert secret.encode() not in sent
            for form in (base64.b64encode(secret.encode()), secret.encode().hex().encode()):
                assert not any(form in path.read_bytes() for path in written)

    def in_file(self):
        path = self.gateway.directory / "data/records.jsonl"
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line.get("type") == "bodies"]


def echo(request, connection):
    """Says everything back, with the real key, in the coding that was asked for."""
    content = request.body
    if request.get("content-encoding") == "gzip":
        content = gzip.decompress(content)
    text = f"You said {content.decode()} with {request.get('authorization')}"
    message = {"role": "assistant", "content": text}
    body = json.dumps({**CHAT, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    if request.get("content-encoding") == "gzip":
        return plain(gzip.compress(body), headers=["Content-Encoding: gzip"])(request, connection)
    return plain(body)(request, connection)


@pytest.mark.parametrize("coding", ["plain", "gzip"])
def test_secrets_in_bodies_are_in_no_sink(serve, upstreams, coding):
    captured = Captured(serve, upstreams, echo)
    said = " and ".join(["Nothing here is secret but", *captured.secrets, "and nothing else"])
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": said}]}).encode()
    headers = {"Content-Type": "application/json"}
    if coding == "gzip":
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    answer = captured.call(body, headers)
    assert answer.status == 200
    seen = gzip.decompress(answer.body) if coding == "gzip" else answer.body
    assert all(secret.encode() in seen for secret in captured.secrets), "the caller gets what the upstream said"
    bodies = captured.bodies(answer)
    for side in ("request", "response"):
        content = bodies[side]["content"]
        assert "Nothing here is secret but" in content and "and nothing else" in content and "***" in content
        assert bodies[side]["bytes"] == len(body if side == "request" else answer.body) and "cut" not in bodies[side]
    captured.assert_nothing_leaked(1)


def disguised(secret):
    """A secret as it may stand in a body without being written out."""
    yield "".join(f"\\u{ord(letter):04x}" for letter in secret)
    yield secret.replace("-", "\\u002d")
    yield secret.replace("-", "%2D")
    yield secret.replace("-", "%2d")
    for padding in ("", "x", "xx"):
        yield base64.b64encode(f"{padding}{secret}:".encode()).decode()
    yield base64.urlsafe_b64encode(secret.encode()).decode()


def test_keys_are_found_in_disguise(serve, upstreams):
    captured = Captured(serve, upstreams, plain(CHAT))
    calls = 0
    for secret in captured.secrets[1:]:
        for form in disguised(secret):
            body = b'{"model": "demo", "messages": [{"role": "user", "content": "so %s said"}]}' % form.encode()
            content = captured.bodies(captured.call(body))["request"]["content"]
            assert form not in content and form[4:-4] not in content, form
            assert content.startswith('{"model": "demo"') and "***" in content
            calls += 1
    captured.assert_nothing_leaked(calls)


def stream_of(pieces, cuts=()):
    """An SSE answer of these deltas whose bytes are written cut at these places."""
    events = [{"model": "demo", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    events.append({"model": "demo", "choices": [], "usage": CHAT["usage"]})
    whole = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"

    def answer(request, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        places = [0, *[cut for cut in cuts if cut < len(whole)], len(whole)]
        for begin, end in zip(places, places[1:]):
            connection.sendall(b"%x\r\n%s\r\n" % (end - begin, whole[begin:end]))
            time.sleep(0.005)
        connection.sendall(b"0\r\n\r\n")

    return answer


def test_a_secret_that_a_stream_says_in_pieces_is_hidden(serve, upstreams):
    answers = []
    captured = Captured(serve, upstreams, lambda request, connection: answers.pop()(request, connection))
    calls = 0
    for secret in captured.secrets:
        for at in (3, len(secret) // 2, len(secret) - 3):
            pieces = ["The word is ", secret[:at], secret[at:], ", friend."]
            answers.append(stream_of(pieces, cuts=range(17, 2_000, 61)))
            answer = captured.call(http1.chat_body(stream=True))
            response = captured.bodies(answer)["response"]
            assert response["form"] == "sse"
            assert response["content"].startswith("The word is ") and response["content"].endswith(", friend.")
            assert secret not in response["content"] and secret[at:] not in response["content"]
            calls += 1
    captured.assert_nothing_leaked(calls)


@pytest.mark.parametrize("options", [{"stream_options": {"include_usage": True}}, {}], ids=["usage asked for", "not"])
def test_a_stream_is_stored_as_the_text_that_a_person_reads(serve, upstreams, options):
    words = [f"word{number} " for number in range(50)]
    captured = Captured(serve, upstreams, stream_of(words, cuts=range(11, 9_000, 37)))
    body = http1.chat_body(stream=True, **options)
    kept = captured.record(captured.call(body))
    assert kept["bodies"]["response"]["content"] == "".join(words)
    assert kept["bodies"]["response"]["usage"] == CHAT["usage"]
    assert kept["bodies"]["request"]["form"] == "text"
    assert json.loads(kept["bodies"]["request"]["content"]) == body, "as the caller sent it"


def test_without_capture_nothing_is_stored(serve, upstreams):
    captured = Captured(serve, upstreams, plain(CHAT), capture=False)
    said = "a sentence that nobody stores"
    answer = captured.call({"model": "demo", "messages": [{"role": "user", "content": said}]})
    until(lambda: captured.admin.get(f"/admin/api/v1/records/{answer.request_id}").status == 200, 10, "the record")
    assert captured.admin.json(f"/admin/api/v1/records/{answer.request_id}")["bodies"] is None
    captured.gateway.finish()
    assert Sqlite(captured.gateway.directory / "data/aiproxy.db").query("SELECT COUNT(*) FROM bodies") == [(0,)]
    written = [path for path in (captured.gateway.directory / "data").rglob("*") if path.is_file()]
    assert not [path.name for path in written if said.encode() in path.read_bytes()]
    assert captured.in_file() == []


def test_a_keys_word_goes_before_the_channels(serve, upstreams):
    upstream = upstreams(plain(CHAT))
    token, system = with_token()

    def change(config):
        config["channels"]["openai"]["capture"] = True
        key = config["users"]["openai"].pop("proxy_key")
        config["users"]["openai"]["proxy_keys"] = [{"id": "shy", "key": key, "capture": False}]
        config["users"]["everyone"]["channels"] = ["openai"]

    gateway = serve(upstream.url, system=system, change=change)
    answers = {user: http1.chat(gateway, user) for user in ("openai", "everyone")}
    admin = Admin(gateway, token)
    admin.settled(2)
    path = "/admin/api/v1/records/"
    until(lambda: admin.json(path + answers["everyone"].request_id)["bodies"], 10, "the bodies of the other key")
    assert admin.json(path + answers["openai"].request_id)["bodies"] is None


def test_binary_is_base64(serve, upstreams):
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    captured = Captured(serve, upstreams, plain(picture, "image/png"))
    response = captured.bodies(captured.call(http1.chat_body()))["response"]
    assert (response["form"], response["content_type"], response["bytes"]) == ("base64", "image/png", len(picture))
    assert base64.b64decode(response["content"]) == picture


def test_binary_with_a_secret_in_it_is_removed(serve, upstreams):
    held = []
    captured = Captured(serve, upstreams, lambda request, connection: held[0](request, connection))
    for secret in captured.secrets:
        held[:] = [plain(b"\x89PNG\r\n\x1a\n\x00\xff" + secret.encode() + b"\x00\xfe", "image/png")]
        content = captured.bodies(captured.call(http1.chat_body()))["response"]["content"]
        assert secret not in content
        assert base64.b64encode(secret.encode())[4:-4].decode() not in content
    captured.assert_nothing_leaked(len(captured.secrets))


def test_a_bomb_is_cut_and_marked_and_memory_stays(serve, upstreams):
    bomb = gzip.compress(b"a" * 100_000_000)
    assert len(bomb) < 1_000_000
    whole = plain(bomb, headers=["Content-Encoding: gzip"])
    captured = Captured(serve, upstreams, whole, capture={"max_size": "1MiB"})
    before = captured.gateway.process.resident_kib()
    answers = [captured.call(http1.chat_body()) for _ in range(3)]
    assert all(answer.body == bomb for answer in answers), "the caller gets what was sent"
    for answer in answers:
        response = captured.bodies(answer)["response"]
        assert response["cut"] == "bomb" and response["bytes"] == len(bomb)
        assert 0 < len(response["content"]) < 20 << 20
    assert captured.gateway.process.peak_resident_kib() - before < 200_000


def test_a_large_body_is_cut_at_its_size(serve, upstreams):
    captured = Captured(serve, upstreams, plain(CHAT), capture={"max_size": "1KiB", "response": False})
    content = "x" * 5_000
    bodies = captured.bodies(captured.call({"model": "demo", "messages": [{"role": "user", "content": content}]}))
    assert bodies["response"] is None
    assert bodies["request"]["cut"] == "size" and bodies["request"]["bytes"] > 5_000
    assert 500 < len(bodies["request"]["content"]) <= 1_024


def test_a_secret_across_the_cut_leaves_no_half(serve, upstreams):
    """A secret of which only the beginning is within `max_size` is a secret still."""
    captured = Captured(serve, upstreams, plain(CHAT), capture={"max_size": "1KiB"})
    for secret in captured.secrets:
        for inside in (len(secret) // 2, len(secret) - 2):
            head = b'{"model": "demo", "messages": [{"role": "user", "content": "'
            body = head + b"x" * (1_023 - len(head) - inside) + b" " + secret.encode() + b" and so on" * 50 + b'"}]}'
            content = captured.bodies(captured.call(body))["request"]["content"]
            assert secret[: inside - 2] not in content, content[-80:]


def test_the_gateways_own_error_is_stored_as_the_answer(serve, upstreams):
    captured = Captured(serve, upstreams, lambda request, connection: "close")
    answer = captured.call(http1.chat_body())
    assert answer.status == 502
    response = captured.bodies(answer)["response"]
    assert json.loads(response["content"])["error"]["code"] == answer.code()
