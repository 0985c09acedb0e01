"""At log level debug, through every carrier and every kind of failure, no key is ever written down.

Besides this test, every process that any test starts is scanned the same way when it stops (harness/secrets.py).
"""

import json
import socket

from harness import binary, http1, secrets
from harness.upstream import CHAT, plain


def closed_port():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_no_key_is_written_whatever_goes_wrong(serve, upstreams):
    def answer(request, connection):
        echo = {"error": {"message": f"Incorrect API key provided: {request.get('authorization')}", "code": "x"}}
        ordinary = plain(echo, status="401 Unauthorized") if "refuse" in request.target else plain(CHAT)
        return ordinary(request, connection)

    unknown, in_header, in_body = secrets.canary("unknown"), secrets.canary("custom"), secrets.canary("prompt")
    dead = {"base_url": f"http://127.0.0.1:{closed_port()}"}
    set_header = {"headers": {"set": {"X-Extra-Secret": in_header}}}
    gateway = serve(upstreams(answer).url, channels={"openai": set_header, "dashscope": dead}, system={"log_level": "trace"})
    key = gateway.keys["openai"]
    for headers, query in [
        ({"Authorization": f"Bearer {key}"}, ""),
        ({"x-api-key": key, "Cookie": key}, f"?key={key}&api-key={unknown}"),
        ({}, f"?key={key}"),
        ({}, f"?access_token={unknown}&Authorization=Bearer%20{unknown}"),
        ({"Authorization": f"Bearer {unknown}"}, ""),
        ({"Authorization": f"Basic {unknown}"}, ""),
        ({"Sec-WebSocket-Protocol": f"realtime,openai-insecure-api-key.{key}"}, ""),
        ({"Authorization": f"Bearer {gateway.keys['dashscope']}"}, ""),
        ({"Authorization": f"Bearer {gateway.keys['leaver']}"}, ""),
    ]:
        for path in ("/v1/chat/completions", "/v1/refuse"):
            body = http1.chat_body(messages=[{"role": "user", "content": in_body}])
            answer = http1.call(gateway.base_url, "POST", f"{path}{query}", headers, body)
            for secret in (key, unknown, in_header, gateway.keys["leaver"]):
                assert secret.encode() not in answer.body, path
    garbled = b"GET /?key=%s\xff HTTP/1.1\r\nAuthorization : %s\r\n\r\n" % (key.encode(), key.encode())
    http1.send(gateway.base_url, garbled)
    gateway.stop()  # scans every file the process has written
    assert len(gateway.records.all()) >= 18


def test_a_config_problem_is_told_without_the_secret_beside_it(tmp_path):
    secret = secrets.canary("real")
    config = {"channels": {"openai": {"api_key": secret, "api_keyy": secret, "base_url": f"http://u:{secret}@:x"}}}
    (tmp_path / "aiproxy.json").write_text(json.dumps(config))
    for command in ("check", "serve"):
        finished = binary.run(command, "-c", "aiproxy.json", cwd=tmp_path)
        assert finished.returncode == 1
        assert secret not in finished.stdout + finished.stderr
