"""An upstream that counts what it served, and callers that count what they got: what a ledger is held against."""

import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CountingUpstream:
    """Answers every chat, whole or streamed, and remembers the usage of each answer by the id it gave it.

    `served` maps the id to (input, output) tokens, once the last byte of the answer was written.
    """

    def __init__(self):
        self.served = {}
        self.lock = threading.Lock()
        self.number = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 1 << 16

            def do_POST(self):
                upstream.answer(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler):
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.number += 1
            number = self.number
        name, tokens = f"served-{number}", (number % 97 + 1, number % 89 + 1)
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
        handler.send_response(200)
        handler.send_header("x-request-id", name)
        if asked.get("stream"):
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for event in self._events(name, usage):
                data = f"data: {event}\n\n".encode()
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                handler.wfile.flush()
            handler.wfile.write(b"0\r\n\r\n")
        else:
            message = {"role": "assistant", "content": "hello"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"id": name, "object": "chat.completion", "model": asked["model"], "choices": [choice], "usage": usage}
            data = json.dumps(body).encode()
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        handler.wfile.flush()
        with self.lock:
            self.served[name] = tokens

    @staticmethod
    def _events(name, usage):
        for word in ("one", "two", "three"):
            yield json.dumps({"id": name, "choices": [{"index": 0, "delta": {"content": word}}]})
        yield json.dumps({"id": name, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield json.dumps({"id": name, "choices": [], "usage": usage})
        yield "[DONE]"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Load:
    """Callers that go on whatever happens. `seen` holds the upstream's ids of answers whose end they saw."""

    def __init__(self, port, key, callers=6):
        self.port, self.key = port, key
        self.seen = set()
        self.statuses = {}
        self.broken = 0
        self.lock = threading.Lock()
        self.running = True
        self.threads = [threading.Thread(target=self._call_on, args=(index,), daemon=True) for index in range(callers)]
        for thread in self.threads:
            thread.start()

    def _call_on(self, index):
        connection, number = None, index
        while self.running:
            number += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                name, status = self._call(connection, stream=number % 3 == 0)
            except (OSError, http.client.HTTPException):
                connection = connection and connection.close()
                with self.lock:
                    self.broken += 1
                time.sleep(0.005)
                continue
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if status == 200:
                    self.seen.add(name)

    def _call(self, connection, stream):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        name = response.getheader("x-upstream-request-id")
        if response.status == 200 and stream and not content.endswith(b"data: [DONE]\n\n"):
            raise http.client.IncompleteRead(content)
        return name, response.status

    def count(self):
        with self.lock:
            return sum(self.statuses.values())

    def stop(self):
        """End it, and return what the callers saw."""
        self.running = False
        for thread in self.threads:
            thread.join()
        return self.seen


def assert_exactly_once(rows, served, seen):
    """`rows` of a sink are (record id, upstream's id, input, output): every answer whose end was seen is there once, and
    every one that is there was served, with the upstream's own numbers."""
    ids = [row[0] for row in rows]
    assert len(ids) == len(set(ids)), "a record is there twice"
    named = [row[1] for row in rows if row[1]]
    assert len(named) == len(set(named)), "an answer is there twice"
    missing = seen - set(named)
    assert not missing, f"{len(missing)} of {len(seen)} answers that callers saw are not in the ledger: {sorted(missing)[:5]}"
    for record_id, name, tokens_in, tokens_out in rows:
        if name in served and name in seen:
            assert (tokens_in, tokens_out) == served[name], (record_id, name)


def assert_equal(rows, served):
    """Nothing was lost on the way: what the sink has is what the upstream served, to the token."""
    named = {row[1]: (row[2], row[3]) for row in rows if row[1]}
    assert len(named) == len([row for row in rows if row[1]]), "an answer is there twice"
    assert named == served
