"""HTTP/1.1 by hand: exact bytes out, exact bytes in. For what no well-behaved client library would send."""

import http.client
import json
import socket
from urllib.parse import urlsplit


class Answer:
    """A whole response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def code(self):
        """The machine-readable code of an error in the OpenAI envelope."""
        return self.json()["error"]["code"]

    @property
    def request_id(self):
        return self.headers["x-request-id"]


def connect(base_url, timeout=10):
    """A socket to the gateway."""
    address = urlsplit(base_url)
    connection = socket.create_connection((address.hostname, address.port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection, method="GET"):
    """Read one response from a socket."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response)


def send(base_url, data, timeout=10):
    """Send exactly these bytes on a connection of their own and read one response."""
    with connect(base_url, timeout) as connection:
        connection.sendall(data)
        return read_answer(connection, data.split(b" ", 1)[0].decode("latin-1"))


def call(base_url, method, target, headers=None, body=None):
    """One ordinary call. The target goes out as written."""
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.lower() for name in headers or {}}
        if payload is not None and "content-type" not in names:
            connection.putheader("Content-Type", "application/json")
        if payload is not None and "content-length" not in names:
            connection.putheader("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders(payload)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def chat_body(stream=False, **fields):
    """The smallest chat request."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], **fields}
    return {**body, "stream": True} if stream else body


def chat(gateway, user="openai", headers=None, **fields):
    """A chat call through the gateway."""
    return call(
        gateway.base_url, "POST", "/v1/chat/completions", {**gateway.bearer(user), **(headers or {})}, chat_body(**fields)
    )


class OpenStream:
    """A streaming chat call that the test reads bit by bit, or walks away from."""

    def __init__(self, gateway, user="openai", headers=None, timeout=10, **fields):
        body = json.dumps(chat_body(stream=True, **fields)).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "Host: gateway", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {**gateway.bearer(user), **(headers or {})}.items()]
        self.connection = connect(gateway.base_url, timeout)
        self.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.response = None

    def head(self):
        """Wait for status and headers."""
        self.response = http.client.HTTPResponse(self.connection, method="POST")
        self.response.begin()
        return self.response

    def read_until(self, text):
        """Read until `text` has come; fail at the end of the body or at the deadline of the socket."""
        seen = b""
        while text not in seen:
            piece = self.response.read1(65536)
            assert piece, f"the stream ended before {text!r}: {seen!r}"
            seen += piece
        return seen

    def rest(self):
        return self.response.read()

    def close(self):
        self.connection.close()
        if self.response:
            self.response.close()
