"""A minute of chaos under load: channels fail, recover, are slow and reset connections at random.

Every call must be answered or refused for a stated reason, none may be left over, weights must hold among channels that
are well, and every call must be in the records exactly once.
"""

import asyncio
import collections
import json
import os
import random
import time

from harness import http1, secrets
from harness.polling import until

SECONDS = float(os.environ.get("AIPROXY_CHAOS_SECONDS", "60"))
CALLERS = 24
ANSWER = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [],
                     "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}).encode()
CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
STATED = {"upstream_unreachable", "upstream_timeout", "upstream_invalid", "no_channel_available", "rate_limited",
          "too_many_concurrent", "server_error", "rate_limit_exceeded"}
TOKEN = secrets.canary("admin")
WEIGHTS = {"one": 1, "two": 2, "three": 3}


class Channel:
    """An upstream whose mood changes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.mood = "well"
        self.served_well = 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=256)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def change_mood(self, until_time):
        moods = ["well"] * 12 + ["limited", "failing", "slow", "resetting", "breaking", "closing"]
        while time.monotonic() < until_time:
            self.mood = self.random.choice(moods)
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
        self.mood = "well"

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                               if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                if not await self.answer(writer, b'"stream":true' in body.replace(b" ", b"")):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the gateway closed, or the test is over
        finally:
            writer.close()

    async def answer(self, writer, is_stream):
        mood = self.mood
        if mood == "closing":
            return False
        if mood == "resetting":
            writer.transport.abort()
            return False
        if mood in ("limited", "failing"):
            status, code = (429, "rate_limit_exceeded") if mood == "limited" else (500, "server_error")
            error = json.dumps({"error": {"message": mood, "code": code}}).encode()
            writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nretry-after-ms: 200\r\n"
                         b"content-length: %d\r\n\r\n%s" % (status, len(error), error))
        elif is_stream:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for number in range(4):
                writer.write(b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK))
                if mood == "breaking" and number == 2:
                    return False
                if mood == "slow":
                    await asyncio.sleep(0.05)
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        else:
            if mood == "slow":
                await asyncio.sleep(self.random.uniform(0.1, 1.5))
            if mood == "breaking":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{")
                return False
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                         % (len(ANSWER), ANSWER))
        await writer.drain()
        self.served_well += mood == "well"
        return True


class Caller:
    """Calls one after the other on a connection of its own, and keeps what became of each."""

    def __init__(self, gateway, seed):
        self.random = random.Random(seed)
        self.gateway = gateway
        self.ends = collections.Counter()

    async def run(self, until_time):
        while time.monotonic() < until_time:
            await self.call()
            # Other tests run beside this one.
            await asyncio.sleep(0.02)

    async def call(self):
        is_stream = self.random.random() < 0.3
        leaves = self.random.random() < 0.05
        body = json.dumps({"model": "m", "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]})
        host, port = self.gateway.base_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        key = self.gateway.keys["everyone"]
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"
                     f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        try:
            if leaves:
                await asyncio.sleep(self.random.uniform(0, 0.02))
                end = "left"
            else:
                end = self.judge(await asyncio.wait_for(reader.read(), 20), is_stream)
            self.ends[end] += 1
            return end
        finally:
            writer.close()

    def judge(self, raw, is_stream):
        head, _, body = raw.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1]) if head else None
        if status is None:
            return "no answer at all"
        if status == 200 and is_stream:
            # The last chunk of the framing and the last event, or an error event of the dialect.
            is_whole = body.endswith(b"0\r\n\r\n") and (b"data: [DONE]" in body or b'"error"' in body)
            return "stream" if is_whole else f"a stream cut without a word: {body[-80:]}"
        if status == 200:
            length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line))
            return "answer" if len(body) == length else "cut"
        code = json.loads(body)["error"]["code"]
        return f"refused: {code}" if code in STATED else f"refused without a stated reason: {status} {code}"


async def chaos(serve):
    channels = {name: Channel(seed) for seed, name in enumerate(WEIGHTS)}
    urls = {name: await channel.start() for name, channel in channels.items()}

    def change(config):
        config["channels"] = {
            name: {
                "kind": "openai", "base_url": url, "weight": WEIGHTS[name],
                "credentials": [{"id": "a", "api_key": f"real-{name}-a", "limits": {"concurrent": 1000}},
                                {"id": "b", "api_key": f"real-{name}-b"}],
                "limits": {"concurrent": 1000},
                "timeouts": {"connect": 1, "first_byte": 3, "idle": 3},
                "health": {"cooldown": "200ms", "max_cooldown": "1s"},
            }
            for name, url in urls.items()
        }
        everyone = config["users"]["everyone"]
        everyone.update(channels=list(urls), failover=True, limits={"concurrent": CALLERS})
        config["users"] = {"everyone": everyone}
        log = {"console": False, "file": {"path": "records.jsonl", "max_size": "1GiB"}}
        config["system"].update(log_level="error", admin={"token": TOKEN}, log=log)

    gateway = await asyncio.to_thread(serve, "http://127.0.0.1:9", change=change)
    until_time = time.monotonic() + SECONDS
    callers = [Caller(gateway, 100 + number) for number in range(CALLERS)]
    moods = [channel.change_mood(until_time) for channel in channels.values()]
    await asyncio.gather(*moods, *(caller.run(until_time) for caller in callers))

    # All is well again: breakers close within the longest pause, and then the weights hold.
    await asyncio.sleep(2)
    calm = Caller(gateway, 7)
    calm.random.random = lambda: 0.5
    for _ in range(200):
        await calm.call()
    before = {name: channel.served_well for name, channel in channels.items()}
    counted = Caller(gateway, 8)
    counted.random.random = lambda: 0.5
    for _ in range(1200):
        await counted.call()
    shares = {name: channel.served_well - before[name] for name, channel in channels.items()}
    ends = sum((caller.ends for caller in [*callers, calm, counted]), collections.Counter())
    for channel in channels.values():
        channel.server.close()
    return gateway, ends, counted.ends, shares


def test_a_minute_of_chaos(serve):
    gateway, ends, calm_ends, shares = asyncio.run(chaos(serve))
    print(ends, shares)
    unexplained = [end for end in ends if end not in ("answer", "stream", "left", "cut") and "refused: " not in end]
    assert not unexplained, unexplained
    assert calm_ends == {"answer": 1200}, calm_ends
    total = sum(shares.values())
    for name, weight in WEIGHTS.items():
        assert abs(shares[name] / total - weight / 6) < 0.02, shares
    # A call whose caller left may have ended before its head was read: it was none.
    records = until(lambda: (found := gateway.records.all()) and len(found) >= ends.total() - ends["left"] and found, 10,
                    "every call recorded")
    assert len(records) <= ends.total()
    assert len({record["id"] for record in records}) == len(records)
    status = http1.call(gateway.base_url, "GET", "/admin/api/v1/status", {"Authorization": f"Bearer {TOKEN}"}).json()
    assert status["calls_in_flight"] == 0, status
    assert {channel["state"] for channel in status["channels"]} == {"healthy"}, status["channels"]
    failed_over = sum(len(record["attempts"]) > 1 for record in records)
    assert failed_over >= 5, "the chaos was none"
    gateway.finish()
