"""WebSocket (RFC 6455) by hand: exact frames out, exact frames in, on the caller's side and on the provider's.

For what no well-behaved library would send, and for tests that say step by step who says what. It checks what it reads:
a server's frame that is masked or a client's that is not is an error here.
"""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import queue
import select
import socket
import threading
from typing import NamedTuple

from harness import http1
from harness.gateway import Gateway
from harness.upstream import RawUpstream, plain

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"sixteen bytes ok").decode()


class Closed(Exception):
    """The other side ended the connection without a close frame."""


class Frame(NamedTuple):
    """One frame, unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def code(self):
        """The code of a close frame; 1005 if it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def reason(self):
        return self.payload[2:].decode()


def accept(key):
    """The answer to a `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def masked(payload, mask):
    """`payload` with `mask` laid over it, which is also how to take it off."""
    if not payload:
        return b""
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")


def header(opcode, length, fin=True, rsv=0, mask=None):
    """The head of a frame whose payload is, or pretends to be, `length` bytes long."""
    first, bit = bytes([(fin << 7) | (rsv << 4) | opcode]), 0x80 if mask is not None else 0
    if length < 126:
        return first + bytes([bit | length]) + (mask or b"")
    if length < 1 << 16:
        return first + bytes([bit | 126]) + length.to_bytes(2, "big") + (mask or b"")
    return first + bytes([bit | 127]) + length.to_bytes(8, "big") + (mask or b"")


def frame(opcode, payload=b"", fin=True, rsv=0, mask=None):
    """The bytes of a frame; masked as a client's is if there is a mask."""
    payload = payload.encode() if isinstance(payload, str) else payload
    return header(opcode, len(payload), fin, rsv, mask) + (masked(payload, mask) if mask is not None else payload)


def close_payload(code, reason=""):
    return code.to_bytes(2, "big") + (reason.encode() if isinstance(reason, str) else reason)


class Peer:
    """One end of an open socket."""

    def __init__(self, connection, is_client, response=None, target=None):
        self.connection = connection
        self.is_client = is_client
        self.response = response
        self.target = target
        self.request = None
        self.left = threading.Event()

    # --- sending

    def send(self, opcode, payload=b"", fin=True, rsv=0, chop=None):
        """One frame, all at once or so many bytes at a time."""
        data = frame(opcode, payload, fin, rsv, os.urandom(4) if self.is_client else None)
        for start in range(0, len(data), chop or len(data)):
            self.connection.sendall(data[start : start + (chop or len(data))])

    def text(self, payload):
        self.send(TEXT, payload)

    def binary(self, payload):
        self.send(BINARY, payload)

    def say(self, **event):
        """An event as JSON."""
        self.text(json.dumps(event, ensure_ascii=False))

    def close(self, code=1000, reason=""):
        self.send(CLOSE, close_payload(code, reason))

    def raw(self, data):
        self.connection.sendall(data)

    def vanish(self):
        """Leave without a word: the other side sees a reset."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.left.set()
        self.connection.close()

    def leave(self):
        """Close the connection below the socket."""
        self.left.set()
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()

    # --- receiving

    def _exactly(self, length):
        pieces = bytearray()
        while len(pieces) < length:
            try:
                piece = self.connection.recv(min(length - len(pieces), 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Closed(f"the connection ended {len(pieces)} bytes into {length}")
            pieces += piece
        return bytes(pieces)

    def frame(self):
        """The next frame, whatever it is; `Closed` if the connection ends first, `TimeoutError` at the deadline."""
        first, second = self._exactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        is_masked = bool(second & 0x80)
        assert is_masked != self.is_client, "a client's frames are masked, a server's are not"
        mask = self._exactly(4) if is_masked else None
        payload = self._exactly(length)
        return Frame(first & 0x0F, masked(payload, mask) if mask else payload, bool(first & 0x80), first >> 4 & 7)

    def next(self, *opcodes):
        """The next frame with one of these opcodes, past pings and pongs. Pings are answered."""
        while True:
            got = self.frame()
            if got.opcode == PING and PING not in opcodes:
                self.send(PONG, got.payload)
            elif got.opcode in opcodes or got.opcode not in (PING, PONG):
                assert got.opcode in opcodes, got
                return got

    def message(self):
        """The next whole message: its kind and its payload."""
        first = self.next(TEXT, BINARY)
        whole, fin = bytearray(first.payload), first.fin
        while not fin:
            more = self.next(CONTINUATION)
            whole, fin = whole + more.payload, more.fin
        return first.opcode, bytes(whole)

    def hear(self):
        """The next message as JSON."""
        return json.loads(self.message()[1])

    def hear_until(self, **wanted):
        """The next message as JSON that has these fields, past all others."""
        while True:
            event = self.hear()
            if wanted.items() <= event.items():
                return event

    def closing(self):
        """The close frame that comes next, answered."""
        return self.answer(self.next(CLOSE))

    def answer(self, close):
        """Answer a close frame. It is the server that then ends the connection (RFC 6455 §7.1.1)."""
        try:
            self.send(CLOSE, close.payload[:2])
        except OSError:
            pass
        if not self.is_client:
            self.leave()
        return close

    def assert_open(self, word=b"still there?"):
        """It answers a ping."""
        self.send(PING, word)
        assert self.next(PONG).payload == word

    def is_silent(self, seconds):
        """Nothing arrives for so long."""
        return not select.select([self.connection], [], [], seconds)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


# --- the caller's side ------------------------------------------------------------------------------------------------


def request_head(target, headers=None, key=KEY, version="13", method="GET", upgrade="websocket", connection="Upgrade"):
    """The bytes of a handshake. What is None is left out."""
    fields = {
        "Host": "gateway",
        "Upgrade": upgrade,
        "Connection": connection,
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": version,
        **(headers or {}),
    }
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items() if value is not None),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def shake_hands(base_url, data, timeout=10):
    """Send these bytes as a handshake: an open `Peer` after 101, else the `http1.Answer`."""
    connection = http1.connect(base_url, timeout)
    connection.sendall(data)
    # Frames may follow the head at once: only the head is taken from the connection.
    head = b""
    while b"\r\n\r\n" not in head:
        select.select([connection], [], [], timeout)
        before, head = head, connection.recv(1 << 16, socket.MSG_PEEK)
        assert head and (len(head) > len(before) or b"\r\n\r\n" in head), "no answer to the handshake"
    if not head.startswith(b"HTTP/1.1 101 "):
        with connection:
            return http1.read_answer(connection)
    connection.recv(head.index(b"\r\n\r\n") + 4)
    lines = head[: head.index(b"\r\n\r\n")].split(b"\r\n", 1)[1] + b"\r\n\r\n"
    return Peer(connection, is_client=True, response=http.client.parse_headers(io.BytesIO(lines)))


def dial(gateway, target, user="openai", headers=None, timeout=10, **handshake):
    """A handshake with this user's key: an open `Peer`, or the refusal."""
    credential = gateway.bearer(user) if user else {}
    return shake_hands(gateway.base_url, request_head(target, {**credential, **(headers or {})}, **handshake), timeout)


def connect(gateway, target, user="openai", headers=None, timeout=10, **handshake):
    """An open socket through the gateway."""
    peer = dial(gateway, target, user, headers, timeout, **handshake)
    assert isinstance(peer, Peer), (peer.status, peer.body)
    key = handshake.get("key", KEY)
    assert peer.response["sec-websocket-accept"] == accept(key), "the proof that it understood the handshake"
    assert peer.response["sec-websocket-extensions"] is None, "nothing was offered"
    return peer


def refusal(gateway, target, user="openai", headers=None, **handshake):
    """The answer to a handshake that must not succeed."""
    answer = dial(gateway, target, user, headers, **handshake)
    if isinstance(answer, Peer):
        answer.leave()
        raise AssertionError("the socket was opened")
    return answer


# --- the provider's side ----------------------------------------------------------------------------------------------


class Sockets:
    """The answer of a `RawUpstream` that upgrades what asks for it; the test takes the open sockets with `next`.

    Used as a context, it ends them all: a gateway that stops need not wait for ends that nobody listens at.
    """

    def __init__(self, headers=(), select_protocol=True):
        self.headers = headers
        self.select_protocol = select_protocol
        self.opened = queue.Queue()
        self.peers = []

    def __call__(self, request, connection):
        if not request.get("sec-websocket-key"):
            return plain({})(request, connection)
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {accept(request.get('sec-websocket-key'))}", *self.headers]
        offered = [word.strip() for word in (request.get("sec-websocket-protocol") or "").split(",") if word.strip()]
        if offered and self.select_protocol:
            lines.append(f"Sec-WebSocket-Protocol: {offered[0]}")
        connection.settimeout(10)
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        peer = Peer(connection, is_client=False, target=request.target)
        peer.request = request
        self.peers.append(peer)
        self.opened.put(peer)
        # The connection is this thread's to close: it stays until the test leaves or the run ends.
        peer.left.wait()
        return "close"

    def next(self, within=5):
        """The next socket that was opened."""
        return self.opened.get(timeout=within)

    def none_opened(self):
        return self.opened.empty()

    def forget(self):
        """Leave all that were opened so far."""
        while not self.opened.empty():
            self.opened.get()
        while self.peers:
            self.peers.pop().leave()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.forget()


def opened(gateway, sockets, target, user="openai", headers=None, **handshake):
    """Both ends of one socket: the caller's and the provider's."""
    client = connect(gateway, target, user, headers, **handshake)
    sockets.peers.append(client)
    return client, sockets.next()


@contextlib.contextmanager
def shared_gateway(directory, **options):
    """A gateway for many tests in front of a provider of sockets, which are its `sockets`."""
    with Sockets() as sockets:
        upstream = RawUpstream(sockets)
        with Gateway(directory, upstream.url, **options) as gateway:
            gateway.sockets = sockets
            yield gateway
        upstream.stop()


def record_of(gateway, client, within=5):
    """The record of one of many sockets."""
    return gateway.records.of(client.response["x-request-id"], within)


# --- records ----------------------------------------------------------------------------------------------------------


def check_record(record, user, channel, dialect, end="complete", **expected):
    """The record of a socket that was opened."""
    wanted = {"user_id": user, "channel_id": channel, "dialect": dialect, "protocol": "websocket", "end": end}
    wanted = {"method": "GET", "status": 101, "key_id": user, **wanted, **expected}
    assert {name: record.get(name) for name in wanted} == wanted, record
    assert record["department"] == "Testing" and record["duration_ms"] >= 0, record
    return record
