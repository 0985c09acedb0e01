"""A tiny HTTP/1.1 provider that keeps the exact bytes of every request and answers what the test says.

It knows nothing of AI. `answer(request, connection)` writes the response bytes itself, so that a test can be slow,
wrong or silent on purpose.
"""

import json
import select
import socket
import threading
import time


class Request:
    """One request as it arrived."""

    def __init__(self, head, body):
        self.head = head
        self.body = body
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = self.line.split(" ", 2)
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]

    def all(self, name):
        """Every value of a header."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def get(self, name):
        """The value of a header, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} arrived {len(values)} times"
        return values[0] if values else None

    def names(self):
        return {header.lower() for header, _ in self.headers}


class RawUpstream:
    """Listens on a port of its own; `requests` fills up while it runs."""

    def __init__(self, answer, keep_bodies=True, tls=None):
        self.answer = answer
        self.keep_bodies = keep_bodies
        self.tls = tls
        self.requests = []
        self.arrived = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
        except OSError:
            return
        reader = connection.makefile("rb", buffering=1 << 20)
        with connection, reader:
            try:
                while request := self._read(reader):
                    with self.arrived:
                        self.requests.append(request)
                        self.arrived.notify_all()
                    if self.answer(request, connection) == "close":
                        return
            except OSError:
                return

    def _read(self, reader):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return None
            head += line
        request = Request(head[:-4], b"")
        request.body_length = 0
        for piece in self._body(request, reader):
            request.body_length += len(piece)
            if self.keep_bodies:
                request.body += piece
        return request

    @staticmethod
    def _body(request, reader):
        if (request.get("transfer-encoding") or "").lower() == "chunked":
            while size := int(reader.readline().split(b";")[0], 16):
                yield reader.read(size)
                reader.readline()
            while reader.readline().strip():
                pass
            return
        left = int(request.get("content-length") or 0)
        while left:
            piece = reader.read(min(left, 1 << 20))
            if not piece:
                return
            left -= len(piece)
            yield piece

    def one(self, within=5):
        """The only request there is."""
        return self.wait_for(1, within)[0]

    def wait_for(self, count, within=5):
        """All requests, once there are `count` of them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, within), f"no {count} requests arrived"
            assert len(self.requests) == count, [request.line for request in self.requests]
            return list(self.requests)

    def stop(self):
        self.listener.close()


def plain(body, content_type="application/json", headers=(), status="200 OK"):
    """An answer with a length, for every request."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(payload)}", *headers]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + payload
    return lambda request, connection: connection.sendall(whole)


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "demo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
}


class HeldStream:
    """An answer that streams only what the test releases: `send` an event, `finish` the body."""

    HEAD = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n%s\r\n"
    )

    def __init__(self, headers=b"", silent=False):
        self.headers = headers
        self.silent = silent
        self.connection = None
        self.started = threading.Event()
        self.ended = threading.Event()
        self.closed_at = None

    def __call__(self, request, connection):
        self.connection = connection
        if not self.silent:
            connection.sendall(self.HEAD % self.headers)
        self.started.set()
        self._watch_for_close(connection)
        return "close"

    def _watch_for_close(self, connection):
        while not self.ended.is_set():
            readable, _, _ = select.select([connection], [], [], 0.02)
            try:
                if readable and not connection.recv(1):
                    break
            except OSError:
                break
        if not self.ended.is_set():
            self.closed_at = time.monotonic()
            self.ended.set()

    def send(self, data):
        """Release bytes as one chunk."""
        assert self.started.wait(5), "the call did not reach the upstream"
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, text):
        """Release one chat delta."""
        chunk = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "demo",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }
        self.send(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def finish(self):
        """End the body properly."""
        self.send(b"data: [DONE]\n\n")
        self.connection.sendall(b"0\r\n\r\n")
        self.ended.set()
