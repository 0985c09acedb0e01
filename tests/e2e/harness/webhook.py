"""A webhook receiver that keeps what it took, by record id, and can be made to fail."""

import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebhookReceiver:
    """`state`: `take`, `fail` (500), `hang` (never answers). `records` maps an id to what was delivered under it."""

    def __init__(self, secret):
        self.secret = secret.encode()
        self.state = "take"
        self.records = {}
        self.deliveries = 0
        self.bad_signatures = 0
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver.take(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/records"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        state = self.state
        if state == "hang":
            while self.state == "hang":
                time.sleep(0.05)
            handler.close_connection = True
            return
        if state == "take":
            signed = handler.headers["X-AIProxy-Timestamp"].encode() + b"." + body
            expected = "sha256=" + hmac.new(self.secret, signed, hashlib.sha256).hexdigest()
            with self.lock:
                self.deliveries += 1
                self.bad_signatures += handler.headers["X-AIProxy-Signature"] != expected
                for record in json.loads(body)["records"]:
                    known = self.records.setdefault(record["id"], record)
                    assert known == record, "one id, two records"
        handler.send_response(200 if state == "take" else 500)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def rows(self):
        with self.lock:
            return [row_of(record) for record in self.records.values()]

    def stop(self):
        self.state = "take"
        self.server.shutdown()
        self.server.server_close()


def row_of(record):
    """A JSON record as (record id, upstream's id, input, output)."""
    usage = record["usage"] or {}
    return record["id"], record["upstream_request_id"], usage.get("input"), usage.get("output")
