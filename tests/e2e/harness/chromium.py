"""A headless Chromium, and the pages that it shows, by its own DevTools protocol.

A page's origin is `http://localhost`, where a browser lends out its microphone, and never the gateway's.
"""

import contextlib
import http.server
import itertools
import json
import mimetypes
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

from websockets.sync.client import connect

from harness import binary
from harness.polling import until
from harness.sdk import HERE

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",  # it shows our own pages only, and runs as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--ignore-certificate-errors",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # Without another network there is only this one.
    "--allow-loopback-in-peer-connection",
    "--remote-debugging-port=0",
]
START_DEADLINE = 30


class Pages:
    """A web server for `browser/`, the npm packages under `/node_modules/`, and `documents` by path."""

    def __init__(self, documents):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = documents.get(self.path) or file_at(self.path)
                self.send_response(200 if content is not None else 404)
                kind = "text/javascript" if self.path.endswith("js") else mimetypes.guess_type(self.path)[0]
                self.send_header("Content-Type", f"{kind or 'text/plain'}; charset=utf-8")
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def file_at(path):
    """The file that a path means, or None."""
    path = urlsplit(path).path
    root = HERE / "node/new" if path.startswith("/node_modules/") else HERE / "browser"
    file = root.joinpath(path.lstrip("/")).resolve()
    return file.read_bytes() if file.is_file() and file.is_relative_to(root.resolve()) else None


class Chromium:
    """A running browser with a profile of its own."""

    def __init__(self, directory):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert program, "there is no Chromium; run scripts/install-test-tools"
        self.directory = Path(directory)
        self.profile = self.directory / "profile"
        self.log = self.directory / "chromium.txt"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.open_things = contextlib.ExitStack()
        environment = {**binary.environment(), "HOME": str(self.directory)}
        with self.log.open("wb") as log:
            command = [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            port, path = until(self._where_it_listens, START_DEADLINE, "Chromium starts")
            asking = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, compression=None, proxy=None)
            self.socket = self.open_things.enter_context(asking)
        except BaseException:
            self.process.kill()
            raise
        self.numbers = itertools.count(1)
        self.pages = {}

    def _where_it_listens(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        told = self.profile / "DevToolsActivePort"
        lines = told.read_text().splitlines() if told.exists() else []
        return lines if len(lines) == 2 else None

    def ask(self, method, session=None, within=30, **parameters):
        """One command of the protocol; its result. What pages report meanwhile is handed to them."""
        number = next(self.numbers)
        asked = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps({**asked, "sessionId": session} if session else asked))
        while True:
            told = json.loads(self.socket.recv(timeout=within))
            if told.get("id") == number:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            page = self.pages.get(told.get("sessionId"))
            if page and "method" in told:
                page.notice(told["method"], told["params"])

    def open(self, url):
        """A page in a tab of its own, whose scripts have run."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, target, session)
        for domain in ("Runtime", "Network", "Page"):
            page.ask(f"{domain}.enable")
        page.ask("Page.navigate", url=url)
        until(lambda: page.run("document.readyState === 'complete' && location.href !== 'about:blank'"), 15, url)
        return page

    def stop(self):
        try:
            self.ask("Browser.close")
            self.open_things.close()
            self.process.wait(15)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Page:
    """One tab: what its scripts `told` the console, the requests it `sent`, and which of the `protocols` answered."""

    def __init__(self, browser, target, session):
        self.browser = browser
        self.target = target
        self.session = session
        self.told = []
        self.sent = []
        self.protocols = {}

    def ask(self, method, **parameters):
        return self.browser.ask(method, self.session, **parameters)

    def notice(self, method, params):
        if method == "Network.requestWillBeSent":
            self.sent.append((params["request"]["method"], params["request"]["url"]))
        elif method == "Network.responseReceived":
            self.protocols[params["response"]["url"]] = params["response"]["protocol"]
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.told.append(json.dumps(params)[:1000])

    def run(self, expression):
        """The value of an expression, awaited; an exception of the page fails the test."""
        ran = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        thrown = ran.get("exceptionDetails")
        assert not thrown, (thrown.get("exception", {}).get("description") or thrown["text"], self.told)
        return ran["result"].get("value")

    def call(self, function, *arguments):
        """Run a function of the page."""
        return self.run(f"{function}({', '.join(map(json.dumps, arguments))})")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.pages.pop(self.session)
        self.browser.ask("Target.closeTarget", targetId=self.target)
