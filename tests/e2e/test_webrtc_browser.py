"""A page in a real browser calls through the gateway, of which it knows a client secret and nothing else."""

import contextlib
import json
import re
import ssl
import urllib.request

import pytest

from harness import binary, http1
from harness.chromium import Chromium, Pages
from harness.polling import until
from harness.secrets import canary, keep
from harness.tls import write_certificate
from harness.webrtc import CALLS, SECRETS, check_call, mint
from harness.websocket_sdk import realtime_usage, used

GUIDE = binary.REPOSITORY / "docs/how-to/use-realtime.md"
PLACE = "https://ai.example.com"
WAYS = ["guide", "openai", "agents"]
HUNG_UP_WITHIN = 5
SYSTEM = {"shutdown_timeout": "3s"}


def program_of_the_guide(base_url):
    """The guide's program for a page, as a module."""
    (program,) = re.findall(r"^```js browser\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert PLACE in program
    program = program.replace(PLACE, base_url)
    return f"export async function begin(secret) {{\n{program}\nreturn {{ peer, events, callId }};\n}}".encode()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stop()


@pytest.fixture
def gateway(serve, demo_upstream):
    """A gateway that does not wait long for the calls of a test that failed."""
    return serve(demo_upstream.url, real_key=demo_upstream.real_key, system=SYSTEM)


@pytest.fixture
def open_page(chromium):
    """Opens pages that know where a gateway is."""
    with contextlib.ExitStack() as opened:

        def open_page(gateway):
            pages = opened.enter_context(Pages({"/guide.mjs": program_of_the_guide(gateway.base_url)}))
            return opened.enter_context(chromium.open(f"{pages.url}/call.html"))

        yield open_page


def begin(page, gateway, way="guide", user="openai"):
    """A call of the page; its id."""
    return page.call("begin", way, gateway.base_url + CALLS, mint(gateway, user)["value"])


def records(gateway, count=1):
    """The records of calls, once there are so many."""

    def found():
        kept = [record for record in gateway.records.all() if record["protocol"] == "webrtc"]
        return kept if len(kept) >= count else None

    kept = until(found, 10, f"{count} records of calls")
    assert len(kept) == count, kept
    return kept


@pytest.mark.parametrize("way", WAYS)
def test_a_page_talks_and_what_it_uses_is_counted_to_the_token(gateway, open_page, way):
    page = open_page(gateway)
    call = begin(page, gateway, way)
    assert call.startswith("rtc_"), "it can read where the call is"
    assert ("OPTIONS", gateway.base_url + CALLS) in page.sent, "the browser asked first, for it is another origin"
    done = page.call("converse", "Say hello to Zhang San 张三")
    assert done["status"] == "completed" and "Zhang San 张三" in done["output"][0]["content"][0]["transcript"]
    heard = page.call("sound")
    assert page.call("sound", heard)["bytes"] > heard["bytes"] > 0, "what it says comes back, and goes on to"
    page.call("converse", "And now goodbye")
    usages = page.call("usages")
    assert len(usages) >= 2
    page.call("hangUp")
    (record,) = records(gateway)
    check_call(record, "openai", model_asked="demo-realtime", model_served="demo-realtime")
    assert used(record) == realtime_usage(usages) and record["usage"]["audio_output"] > 0
    assert record["request_bytes"] > 0 < record["response_bytes"]


def test_a_page_talks_over_tls_and_http_2(serve, demo_upstream, open_page, tmp_path):
    certificate, key = write_certificate(tmp_path / "tls", "gateway")
    system = {**SYSTEM, "tls": {"cert": str(certificate), "key": str(key)}}
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system=system)
    wish = {"session": {"type": "realtime", "model": "demo-realtime"}}
    headers = {**gateway.bearer(), "Content-Type": "application/json"}
    minting = urllib.request.Request(gateway.base_url + SECRETS, json.dumps(wish).encode(), headers)
    with urllib.request.urlopen(minting, context=ssl.create_default_context(cafile=str(certificate))) as answer:
        secret = keep(json.load(answer)["value"])
    page = open_page(gateway)
    page.call("begin", "guide", gateway.base_url + CALLS, secret)
    assert page.protocols[gateway.base_url + CALLS] == "h2"
    page.call("sound")
    page.call("hangUp")
    (record,) = records(gateway)
    assert used(check_call(record)) == realtime_usage(page.call("usages"))


def test_a_page_is_hung_up_when_its_key_is_disabled_and_nobody_else_is(gateway, open_page):
    page, other = open_page(gateway), open_page(gateway)
    begin(page, gateway)
    begin(other, gateway, user="everyone")
    page.call("converse", "hello")
    page.call("sound")
    user = gateway.config["users"]["openai"]
    user["proxy_keys"] = [{"id": "openai", "key": user.pop("proxy_key"), "status": "disabled"}]
    gateway.write_config()
    until(lambda: not page.call("isLive"), HUNG_UP_WITHIN, "the call of the key is hung up")
    (record,) = records(gateway)
    check_call(record, "openai", end=record["end"], error_code="key_disabled")
    assert used(record) == realtime_usage(page.call("usages"))
    assert other.call("isLive") and other.call("converse", "still there?")["status"] == "completed"
    other.call("hangUp")
    records(gateway, 2)


def test_a_page_reads_why_it_was_refused(gateway, open_page):
    page, key = open_page(gateway), canary("ek_wrong")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/sdp", "X-Stainless-OS": "Linux"}
    seen = page.call("request", gateway.base_url + CALLS, {"method": "POST", "headers": headers, "body": "v=0"})
    assert seen["status"] == 401 and "invalid_credential" in seen["body"], seen
    assert gateway.records.of(seen["requestId"])["error_code"] == "invalid_credential"


@pytest.mark.parametrize("path", [SECRETS, "/v1/chat/completions", "/v1/realtime/calls/rtc_1/hangup"])
def test_a_browser_lets_a_page_ask_for_calls_and_for_nothing_else(gateway, open_page, path):
    page = open_page(gateway)
    headers = {**gateway.bearer(), "Content-Type": "application/json"}
    seen = page.call("request", gateway.base_url + path, {"method": "POST", "headers": headers, "body": "{}"})
    assert seen == {"error": "TypeError"}, "not even with a proxy key"
    assert http1.call(gateway.base_url, "OPTIONS", path).headers["access-control-allow-origin"] is None
