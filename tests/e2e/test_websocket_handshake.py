"""The opening of a socket: who is let in, where it goes, what reaches the provider, and every refusal before 101."""

import ssl

import pytest

from harness import http1, websocket
from harness.tls import write_certificate
from harness.upstream import CHAT, plain
from harness.websocket import (
    Sockets,
    check_record,
    connect,
    opened,
    record_of,
    refusal,
    request_head,
    shake_hands,
    shared_gateway,
)
from harness.websocket_dialects import DASHSCOPE, ECHO, GEMINI, OMNI, OPENAI, RESPONSES

# Dialect → path, the header that the provider wants its key in, and where a refusal says its code.
DIALECTS = {
    "openai": (OPENAI, "authorization", lambda body: body["error"]["code"]),
    "responses": (RESPONSES, "authorization", lambda body: body["error"]["code"]),
    "dashscope": (DASHSCOPE, "authorization", lambda body: body["code"]),
    "omni": (OMNI, "authorization", lambda body: body["code"]),
    "gemini": (GEMINI, "x-goog-api-key", lambda body: body["error"]["details"][0]["reason"]),
}
USERS = {"openai": "openai", "responses": "openai", "dashscope": "dashscope", "omni": "dashscope", "gemini": "gemini"}


@pytest.fixture
def sockets():
    with Sockets() as sockets:
        yield sockets


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with shared_gateway(tmp_path_factory.mktemp("handshake")) as gateway:
        yield gateway


@pytest.fixture
def running(shared):
    """A gateway with the channels that every gateway of these tests has."""
    yield shared
    shared.sockets.forget()


def finish(client, provider):
    client.close()
    provider.closing()
    client.next(websocket.CLOSE)
    client.leave()


def refused(status, body=b"", *headers):
    """An upstream's answer other than 101."""
    return plain(body, headers=headers, status=status)


# --- who, and with what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_real_key_takes_the_place_of_the_proxy_key(running, dialect):
    path, place, _ = DIALECTS[dialect]
    gateway, sockets = running, running.sockets
    user = USERS[dialect]
    private = {
        "Cookie": "a=b",
        "X-Forwarded-For": "1.2.3.4",
        "OpenAI-Organization": "org-1",
        "Origin": "http://a.example",
    }
    client, provider = opened(gateway, sockets, path, user, private)
    arrived = provider.request
    assert gateway.keys[user].encode() not in arrived.head and arrived.head.count(gateway.real_key.encode()) == 1
    assert arrived.get(place).removeprefix("Bearer ") == gateway.real_key
    assert not {"cookie", "x-forwarded-for", "openai-organization", "origin"} & arrived.names()
    assert arrived.get("upgrade").lower() == "websocket" and arrived.get("connection").lower() == "upgrade"
    assert arrived.get("sec-websocket-version") == "13"
    assert arrived.get("sec-websocket-key") != websocket.KEY, "a key of its own: the two connections are two handshakes"
    assert arrived.get("host") in gateway.config["channels"][user]["base_url"]
    finish(client, provider)
    check_record(record_of(gateway, client), user, user, user)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("credential,code", [("nobody", "invalid_credential"), (None, "missing_credential")])
def test_strangers_are_refused_in_their_dialect_before_101(running, dialect, credential, code):
    path, _, code_of = DIALECTS[dialect]
    gateway, sockets = running, running.sockets
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    answer = refusal(gateway, path, None, headers)
    assert answer.status == 401 and answer.headers["content-type"].startswith("application/json")
    assert code_of(answer.json()) == code
    assert sockets.none_opened()
    kept = gateway.records.of(answer.request_id)
    assert (kept["id"], kept["status"], kept["error_code"]) == (answer.request_id, 401, code)
    assert kept["protocol"] == "http" and kept["attempts"] == [], "no socket was opened"


def test_a_disabled_user_is_refused(running):
    gateway, sockets = running, running.sockets
    answer = refusal(gateway, OPENAI, "leaver")
    assert answer.status == 403 and answer.code() == "user_disabled" and sockets.none_opened()


SUBPROTOCOLS = {
    "the key alone": "realtime, openai-insecure-api-key.<key>",
    "without spaces": "realtime,openai-insecure-api-key.<key>,openai-beta.realtime-v1",
    "with organization and project": "realtime, openai-insecure-api-key.<key>, openai-organization.o, openai-project.p",
    "the key first": "openai-insecure-api-key.<key>, realtime",
}


@pytest.mark.parametrize("offered", SUBPROTOCOLS.values(), ids=SUBPROTOCOLS.keys())
def test_a_browser_brings_its_key_as_a_subprotocol_and_never_gets_it_back(running, offered):
    gateway, sockets = running, running.sockets
    key = gateway.keys["openai"]
    headers = {"Sec-WebSocket-Protocol": offered.replace("<key>", key), "Origin": "https://app.example"}
    client, provider = opened(gateway, sockets, OPENAI, None, headers)
    assert client.response.get_all("sec-websocket-protocol") == ["realtime"]
    arrived = provider.request.get("sec-websocket-protocol")
    assert arrived.split(",")[0] == "realtime" and key.encode() not in provider.request.head
    assert "insecure" not in arrived and "organization" not in arrived and "project" not in arrived
    finish(client, provider)
    check_record(record_of(gateway, client), "openai", "openai", "openai")


def test_a_subprotocol_that_the_provider_does_not_take_is_not_claimed(serve, upstreams):
    sockets = Sockets(select_protocol=False)
    gateway = serve(upstreams(sockets).url)
    client, provider = opened(gateway, sockets, ECHO, headers={"Sec-WebSocket-Protocol": "chat, superchat"})
    assert provider.request.get("sec-websocket-protocol").replace(" ", "") == "chat,superchat"
    assert client.response["sec-websocket-protocol"] is None
    finish(client, provider)


def test_realtime_is_echoed_even_if_the_provider_is_silent_about_it(serve, upstreams):
    """Browsers and the `ws` package give a socket up whose subprotocol nobody took."""
    sockets = Sockets(select_protocol=False)
    gateway = serve(upstreams(sockets).url)
    headers = {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{gateway.keys['openai']}"}
    client, provider = opened(gateway, sockets, OPENAI, None, headers)
    assert client.response.get_all("sec-websocket-protocol") == ["realtime"]
    finish(client, provider)


@pytest.mark.parametrize("slashes", ["", "/"], ids=["one slash", "two slashes"])
def test_gemini_clients_bring_their_key_in_the_query_and_may_double_a_slash(running, slashes):
    gateway, sockets = running, running.sockets
    client, provider = opened(gateway, sockets, f"{slashes}{GEMINI}?key={gateway.keys['gemini']}&alt=x", None)
    assert provider.target in (f"{GEMINI}?alt=x", f"{slashes}{GEMINI}?alt=x")
    assert provider.request.get("x-goog-api-key") == gateway.real_key
    finish(client, provider)
    kept = check_record(record_of(gateway, client), "gemini", "gemini", "gemini")
    assert kept["endpoint"] == "/ws/{service}" and gateway.keys["gemini"] not in kept["path"]


AZURE = {
    "by deployment": "/openai/realtime?api-version=2025-04-01-preview&deployment=demo-realtime",
    "version one": "/openai/v1/realtime?model=demo-realtime",
}


@pytest.mark.parametrize("path", AZURE.values(), ids=AZURE.keys())
def test_azure_clients_reach_an_azure_channel(serve, upstreams, sockets, path):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"kind": "azure"}})
    client, provider = opened(gateway, sockets, path, None, {"api-key": gateway.keys["openai"]})
    assert provider.target == path and provider.request.get("api-key") == gateway.real_key
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai")
    assert kept["model_asked"] == "demo-realtime"


# --- where to ---------------------------------------------------------------------------------------------------------


def test_sockets_go_to_their_own_base_url_and_paths(serve, upstreams, sockets):
    elsewhere = upstreams(plain(CHAT))
    upstream = upstreams(sockets)
    where = {"websocket_url": upstream.url.replace("http", "ws"), "websocket_endpoints": {"/v1/realtime": "/live/v9"}}
    gateway = serve(elsewhere.url, channels={"openai": where})
    client, provider = opened(gateway, sockets, OPENAI)
    assert provider.target == "/live/v9?model=demo-realtime"
    finish(client, provider)
    assert http1.chat(gateway).status == 200, "other calls go where they went"
    assert len(elsewhere.requests) == 1 and len(upstream.requests) == 1


def test_a_provider_is_reached_by_tls_and_its_certificate_is_checked(serve, upstreams, sockets, tmp_path):
    certificate, key = write_certificate(tmp_path / "upstream", "upstream")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    upstream = upstreams(sockets, tls=context)
    trusting = {"websocket_url": upstream.url.replace("https", "wss"), "tls": {"ca_file": str(certificate)}}
    gateway = serve(upstream.url, channels={"openai": trusting})
    client, provider = opened(gateway, sockets, OPENAI)
    client.text("hello")
    assert provider.message() == (websocket.TEXT, b"hello")
    finish(client, provider)
    answer = refusal(gateway, DASHSCOPE, "dashscope")
    assert answer.status == 502 and answer.json()["code"] == "upstream_unreachable"


def test_a_channel_without_sockets_says_so(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"supports_websocket": False}})
    answer = refusal(gateway, OPENAI)
    assert answer.status == 400 and answer.code() == "websocket_not_supported" and sockets.none_opened()
    assert gateway.records.one()["error_code"] == "websocket_not_supported"


def test_another_channel_with_sockets_is_taken_instead(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"supports_websocket": False}})
    client, provider = opened(gateway, sockets, OPENAI, "everyone")
    finish(client, provider)
    assert gateway.records.one()["channel_id"] != "openai"


def test_an_alias_in_the_query_becomes_the_real_name(serve, upstreams, sockets):
    gateway = serve(upstreams(sockets).url, channels={"openai": {"models": {"fast": "demo-realtime"}}})
    client, provider = opened(gateway, sockets, "/v1/realtime?a=%2F&model=fast&b=1")
    assert provider.target == "/v1/realtime?a=%2F&model=demo-realtime&b=1"
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "openai", "openai")
    assert (kept["model_asked"], kept["model_served"]) == ("fast", "demo-realtime")


@pytest.mark.parametrize("dialect", ["openai", "omni"])
def test_a_model_that_the_key_may_not_use_is_refused_before_101(serve, upstreams, sockets, dialect):
    path, _, code_of = DIALECTS[dialect]
    user = USERS[dialect]
    gateway = serve(upstreams(sockets).url, change=lambda config: config["users"][user].update(models=["small-*"]))
    answer = refusal(gateway, path, user)
    assert answer.status == 403 and code_of(answer.json()) == "model_not_allowed" and sockets.none_opened()
    assert gateway.records.one()["error_code"] == "model_not_allowed"


# Whichever of two names an upstream takes, the other is not the one that was checked.
FORBIDDEN = {
    "twice": "/v1/realtime?model=small-1&model=forbidden",
    "twice, the other way": "/v1/realtime?model=forbidden&model=small-1",
    "written differently": "/v1/realtime?m%6Fdel=forbidden",
    "as azure's deployment": "/openai/realtime?api-version=2025-04-01-preview&deployment=forbidden",
    "as azure's deployment, beside a model": "/openai/realtime?api-version=v&model=small-1&deployment=forbidden",
}


@pytest.mark.parametrize("path", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_no_way_of_asking_gets_a_model_past_the_check(serve, upstreams, sockets, path):
    def change(config):
        config["users"]["openai"]["models"] = ["small-*"]
        if path.startswith("/openai/"):
            config["channels"]["openai"]["kind"] = "azure"

    gateway = serve(upstreams(sockets).url, change=change)
    answer = refusal(gateway, path)
    assert (answer.status, answer.code()) in ((403, "model_not_allowed"), (400, "invalid_request"))
    assert sockets.none_opened()


# --- what the provider says to it -------------------------------------------------------------------------------------


def test_a_refusal_of_the_provider_passes_through(serve, upstreams):
    body = b'{"error":{"message":"not for you","type":"invalid_request_error","code":"no_access"}}'
    gateway = serve(upstreams(refused("403 Forbidden", body, "x-request-id: theirs")).url)
    answer = refusal(gateway, OPENAI)
    assert (answer.status, answer.body) == (403, body)
    kept = gateway.records.one()
    assert (kept["status"], kept["protocol"], kept["end"]) == (403, "http", "complete")
    assert [attempt["status"] for attempt in kept["attempts"]] == [403]


def two_channels(sockets, upstreams, first_answer, failover=True):
    """A first channel that does not open the socket, and a second that does."""
    first, second = upstreams(first_answer), upstreams(sockets)

    def change(config):
        config["channels"] = {
            name: {
                "kind": "openai",
                "base_url": upstream.url,
                "api_key": config["channels"]["openai"]["api_key"],
                "priority": rank,
                "health": False,
            }
            for rank, (name, upstream) in enumerate((("first", first), ("second", second)))
        }
        for user in config["users"].values():
            user["channels"] = ["first", "second"]
        config["system"]["failover"] = failover

    return change


def test_the_next_channel_is_tried_before_101(serve, upstreams, sockets):
    change = two_channels(sockets, upstreams, refused("503 Service Unavailable", b'{"error":{"message":"busy"}}'))
    gateway = serve("http://127.0.0.1:9", change=change)
    client, provider = opened(gateway, sockets, OPENAI)
    client.text("hello")
    assert provider.message() == (websocket.TEXT, b"hello")
    finish(client, provider)
    kept = check_record(gateway.records.one(), "openai", "second", "openai")
    assert [(attempt["channel_id"], attempt["status"]) for attempt in kept["attempts"]] == [
        ("first", 503),
        ("second", 101),
    ]


def test_without_failover_no_other_channel_is_tried(serve, upstreams, sockets):
    change = two_channels(
        sockets, upstreams, refused("503 Service Unavailable", b'{"error":{"message":"busy"}}'), False
    )
    gateway = serve("http://127.0.0.1:9", change=change)
    assert refusal(gateway, OPENAI).status == 503
    assert sockets.none_opened()


def answering(*lines):
    """An upstream's answer to the handshake with a placeholder for the right proof."""

    def answer(request, connection):
        proof = websocket.accept(request.get("sec-websocket-key"))
        connection.sendall("\r\n".join(line.replace("<accept>", proof) for line in lines).encode() + b"\r\n\r\n")
        return "close"

    return answer


SWITCHING = "HTTP/1.1 101 Switching Protocols"
WRONG_UPGRADES = {
    "to something else": (SWITCHING, "Upgrade: h2c", "Connection: Upgrade", "Sec-WebSocket-Accept: <accept>"),
    "to nothing": (SWITCHING, "Connection: Upgrade", "Sec-WebSocket-Accept: <accept>"),
    "without connection": (SWITCHING, "Upgrade: websocket", "Sec-WebSocket-Accept: <accept>"),
    "with the wrong proof": (
        SWITCHING,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ),
    "without proof": (SWITCHING, "Upgrade: websocket", "Connection: Upgrade"),
    "with an extension that nobody offered": (
        SWITCHING,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: <accept>",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ),
    "with a subprotocol that nobody offered": (
        SWITCHING,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: <accept>",
        "Sec-WebSocket-Protocol: surprise",
    ),
}


@pytest.mark.parametrize("lines", WRONG_UPGRADES.values(), ids=WRONG_UPGRADES.keys())
def test_a_provider_that_upgrades_wrongly_is_not_believed(serve, upstreams, lines):
    gateway = serve(upstreams(answering(*lines)).url)
    answer = refusal(gateway, OPENAI)
    assert answer.status == 502 and answer.code() == "upstream_invalid"
    kept = gateway.records.one()
    assert (kept["status"], kept["error_code"], kept["end"]) == (502, "upstream_invalid", "upstream_error")


def test_a_provider_that_is_not_there_is_502(serve):
    gateway = serve("http://127.0.0.1:9")
    answer = refusal(gateway, OPENAI)
    assert answer.status == 502 and answer.code() == "upstream_unreachable" and b"127.0.0.1" not in answer.body


def test_a_provider_that_does_not_answer_the_handshake_is_504(serve, upstreams):
    def silent(request, connection):
        connection.settimeout(5)
        connection.recv(1)

    gateway = serve(upstreams(silent).url, channels={"openai": {"timeouts": {"first_byte": "300ms"}}})
    answer = refusal(gateway, OPENAI)
    assert answer.status == 504 and answer.code() == "upstream_timeout"
    assert gateway.records.one()["end"] == "timeout"


# --- handshakes that are none -----------------------------------------------------------------------------------------

BAD_HANDSHAKES = {
    "without a key": ({"key": None}, 400),
    "with a short key": ({"key": "c2hvcnQ="}, 400),
    "with a key that is no base64": ({"key": "*" * 24}, 400),
    "without a version": ({"version": None}, 426),
    "of version 8": ({"version": "8"}, 426),
    "of a version that is no number": ({"version": "thirteen"}, 426),
}


@pytest.mark.parametrize("wrong,status", BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES.keys())
def test_a_handshake_that_is_wrong_is_refused(running, wrong, status):
    gateway, sockets = running, running.sockets
    answer = refusal(gateway, OPENAI, **wrong)
    assert answer.status == status and answer.json()["error"]["code"] == "invalid_request"
    assert answer.status != 426 or answer.headers["sec-websocket-version"] == "13"
    assert sockets.none_opened()


def test_a_post_does_not_become_a_socket(serve, upstreams):
    upstream = upstreams(plain(CHAT))
    gateway = serve(upstream.url)
    headers = {**gateway.bearer(), "Content-Type": "application/json", "Content-Length": "2"}
    head = request_head("/v1/chat/completions", headers, method="POST")
    answer = shake_hands(gateway.base_url, head + b"{}")
    assert answer.status in (200, 400), answer.body
    for arrived in upstream.requests:
        assert not {"upgrade", "sec-websocket-key", "sec-websocket-version"} & arrived.names()


def test_an_upgrade_to_something_else_is_an_ordinary_call(serve, upstreams):
    upstream = upstreams(plain(CHAT))
    gateway = serve(upstream.url)
    headers = {**gateway.bearer(), "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    head = request_head(
        "/v1/models", headers, key=None, version=None, upgrade="h2c", connection="Upgrade, HTTP2-Settings"
    )
    assert shake_hands(gateway.base_url, head).status == 200
    assert not {"upgrade", "http2-settings"} & upstream.one().names()


def test_odd_but_lawful_handshakes_are_understood(running):
    gateway, sockets = running, running.sockets
    for odd in ({"upgrade": "WebSocket"}, {"connection": "keep-alive, upgrade"}):
        with connect(gateway, OPENAI, **odd) as client, sockets.next() as provider:
            client.text("hello")
            assert provider.message() == (websocket.TEXT, b"hello")
