"""Runs the cases of `conformance_cases` against an echo server and judges them as Autobahn does."""

import asyncio
import logging
import os
import threading
from contextlib import suppress
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from harness.conformance_cases import FAILED, INFORMATIONAL, NON_STRICT, OK, Part, Pause, RoundTrips, Send
from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    header,
    masked,
    request_head,
)

AT_ONCE = 64
# A case that goes as it should never waits for a deadline, except to see that nothing happens in a pause.
PAUSE = 0.3
DEADLINE = 5
LARGEST = 64 << 20
# What the server thinks of its clients' mistakes is known.
SILENT = logging.Logger("silent", logging.CRITICAL + 1)


class EchoServer:
    """The `websockets` package's own server, which says back what it hears, in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _start(self):
        options = {"compression": None, "max_size": LARGEST, "ping_interval": None, "close_timeout": 2}
        return await serve(self._echo, "127.0.0.1", 0, logger=SILENT, **options)

    @staticmethod
    async def _echo(connection):
        with suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async def _stop(self):
        self.server.close()
        await self.server.wait_closed()

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


class Result(NamedTuple):
    """How a case went: what was said, and how it was closed."""

    behaviour: str
    closing: str
    saw: str

    def is_failure(self):
        return self.behaviour == FAILED

    def is_closed_well(self):
        return self.closing == OK


class Conversation:
    """One case on one connection."""

    def __init__(self, case, reader, writer):
        self.case, self.reader, self.writer = case, reader, writer
        self.events = []
        self.closed_by_us = None
        self.sent_close = self.got_close = False
        self.code = None
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()

    # --- sending

    async def send(self, data, chop=0):
        with suppress(ConnectionError):
            for start in range(0, len(data), chop or max(len(data), 1)):
                self.writer.write(data[start : start + (chop or len(data))])
                await self.writer.drain()
                if chop:
                    await asyncio.sleep(0)

    async def send_close(self, payload, **options):
        if self.closed_by_us is None:
            self.closed_by_us = True
        self.sent_close = True
        await self.send(frame(CLOSE, payload, mask=os.urandom(4), **options))

    async def take(self, steps):
        together = b""
        for step in steps:
            if self.ended.is_set() or (self.got_close and not self.case.closes_itself):
                break
            if isinstance(step, Send) and step.opcode != CLOSE and not step.chop:
                together += frame(step.opcode, step.payload, step.fin, step.rsv, os.urandom(4))
                continue
            await self.send(together)
            together = b""
            await self.take_one(step)
        await self.send(together)

    async def take_one(self, step):
        match step:
            case Send(opcode=opcode) if opcode == CLOSE:
                if step.rsv:
                    await self.send(frame(CLOSE, step.payload, rsv=step.rsv, mask=os.urandom(4)))
                else:
                    await self.send_close(step.payload)
            case Send():
                await self.send(frame(step.opcode, step.payload, step.fin, step.rsv, os.urandom(4)), step.chop)
            case Pause():
                if not await self.within(PAUSE, lambda: self.ended.is_set() or self.got_close) and step.name:
                    self.events.append(("pause", step.name))
            case Part():
                # All parts are of one frame: their mask is the same.
                head = header(step.opcode, len(step.payload), mask=b"mask") if step.start == 0 else b""
                await self.send(head + masked(step.payload, b"mask")[step.start : step.end])
            case RoundTrips():
                for number in range(step.count):
                    await self.send(frame(step.opcode, step.payload, mask=os.urandom(4)))
                    if not await self.within(DEADLINE, partial(self.has_come_back, number)):
                        return

    # --- receiving

    async def listen(self):
        try:
            opcode, whole = None, b""
            while True:
                first, second = await self.reader.readexactly(2)
                length = second & 0x7F
                if length >= 126:
                    length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
                payload = await self.reader.readexactly(length)
                if second & 0x80 or first & 0x70:
                    self.events.append(("not lawful", first, second))
                kind = first & 0x0F
                if kind in (TEXT, BINARY, CONTINUATION):
                    opcode, whole = (opcode, whole + payload) if kind == CONTINUATION else (kind, payload)
                    if first & 0x80:
                        self.events.append(("message", opcode, whole))
                elif kind == PONG:
                    self.events.append(("pong", payload))
                elif kind == PING:
                    await self.send(frame(PONG, payload, mask=os.urandom(4)))
                elif kind == CLOSE and not self.got_close:
                    self.got_close = True
                    self.code = int.from_bytes(payload[:2], "big") if payload else None
                    if not self.sent_close:
                        self.closed_by_us, self.sent_close = False, True
                        await self.send(frame(CLOSE, payload[:2], mask=os.urandom(4)))
                self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            if self.closed_by_us is None:
                self.closed_by_us = False
            self.ended.set()
            self.changed.set()

    async def within(self, seconds, condition):
        """Whether `condition()` comes true in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
                return True
        return False

    # --- the whole of it

    async def run(self):
        listening = asyncio.create_task(self.listen())
        try:
            await self.take(self.case.steps)
            if self.case.closed_by_us and not self.case.closes_itself:
                await self.within(DEADLINE, self.has_all)
                if not self.got_close and not self.ended.is_set():
                    await self.send_close(close_payload(1000))
            is_ended = await self.within(DEADLINE, self.ended.is_set)
            if not is_ended and self.closed_by_us is None:
                self.closed_by_us = True
            return self.judge(is_ended)
        finally:
            listening.cancel()
            self.writer.close()

    def has_all(self):
        """Nothing more is waited for."""
        return self.ended.is_set() or self.got_close or tuple(self.events) == self.case.expected

    def has_come_back(self, number):
        return self.ended.is_set() or len(self.events) > number

    def judge(self, is_ended):
        case, saw = self.case, tuple(self.events)
        closing = OK
        if self.closed_by_us != case.closed_by_us:
            closing = "WRONG END"
        elif case.must_be_clean and not (self.sent_close and self.got_close):
            closing = "UNCLEAN"
        elif self.code is not None and self.code not in case.codes:
            closing = "WRONG CODE"
        elif not is_ended:
            closing = "LEFT OPEN"
        behaviour = OK if saw == case.expected else NON_STRICT if saw == case.tolerated else FAILED
        if case.must_be_ended_by_server and closing == "WRONG END" or case.code_decides and closing == "WRONG CODE":
            behaviour = FAILED
        if case.is_informational:
            behaviour, closing = INFORMATIONAL, OK
        return Result(behaviour, closing, f"{shorten(saw)}, closed with {self.code}, by us: {self.closed_by_us}")


def shorten(events):
    """Events for people."""
    short = [tuple(part[:24] if isinstance(part, bytes) else part for part in event) for event in events[:4]]
    return f"{short}{'…' if len(events) > 4 else ''}"


async def converse(case, url, headers):
    """Open a connection and hold the conversation of one case on it."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 20)
    writer.write(request_head(address.path or "/", headers))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
    if not head.startswith(b"HTTP/1.1 101 "):
        writer.close()
        return Result(FAILED, FAILED, f"no handshake: {head[:200]!r}")
    return await Conversation(case, reader, writer).run()


async def run_all(cases, url, headers):
    """The result of each case by its number."""
    free = asyncio.Semaphore(AT_ONCE)
    results = {}

    async def one(case):
        async with free:
            results[case.number] = await converse(case, url, headers)

    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(one(case))
    return results
