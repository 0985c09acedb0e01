"""The callers' port with TLS and HTTP/2, and a certificate that is renewed while it runs."""

import json
import socket
import ssl
import subprocess

import pytest

from harness import http1
from harness.polling import until
from harness.tls import write_certificate
from harness.upstream import CHAT, HeldStream, plain


@pytest.fixture
def secure(serve, demo_upstream, tmp_path):
    """A gateway that speaks TLS, with its certificate's directory."""
    certificate, key = write_certificate(tmp_path / "tls", "first")
    tls = {"cert": str(certificate), "key": str(key)}
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system={"tls": tls})
    gateway.tls_directory = tmp_path / "tls"
    return gateway


def curl(gateway, *arguments, stream=False):
    """A chat call by curl; its answer and the HTTP version spoken."""
    body = json.dumps(http1.chat_body(stream=stream))
    command = ["curl", "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_version} %{http_code}"]
    command += ["--header", f"Authorization: {gateway.bearer()['Authorization']}", "--json", body, *arguments]
    finished = subprocess.run([*command, f"{gateway.base_url}/v1/chat/completions"], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    answer, _, versions = finished.stdout.rpartition("\n")
    version, status = versions.split()
    return version, int(status), answer


@pytest.mark.parametrize("flag,version", [("--http2", "2"), ("--http1.1", "1.1")])
def test_tls_serves_either_version_of_http(secure, flag, version):
    assert secure.base_url.startswith("https://")
    trusted = ["--cacert", secure.tls_directory / "cert.pem"]
    spoken, status, answer = curl(secure, flag, *trusted)
    assert (spoken, status) == (version, 200)
    assert "hello" in json.loads(answer)["choices"][0]["message"]["content"]
    spoken, status, answer = curl(secure, flag, *trusted, stream=True)
    assert (spoken, status) == (version, 200) and answer.rstrip().endswith("data: [DONE]")
    assert [kept["end"] for kept in secure.records.wait_for(2)] == ["complete", "complete"]


def test_http2_without_tls_by_prior_knowledge(gateway):
    spoken, status, answer = curl(gateway, "--http2-prior-knowledge")
    assert (spoken, status) == ("2", 200)
    assert json.loads(answer)["usage"]["completion_tokens"] == gateway.records.one()["usage"]["output"]


def test_a_renewed_certificate_is_used_without_cutting_a_connection(secure):
    first = (secure.tls_directory / "cert.pem").read_text()
    address = ("127.0.0.1", int(secure.base_url.rsplit(":", 1)[1]))
    context = ssl.create_default_context(cadata=first)
    with context.wrap_socket(socket.create_connection(address, 10), server_hostname="127.0.0.1") as connection:
        request = b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n"
        connection.sendall(request)
        assert http1.read_answer(connection).status == 200
        assert der(address) == ssl.PEM_cert_to_DER_cert(first)

        certificate, _ = write_certificate(secure.tls_directory, "second")
        second = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        until(lambda: der(address) == second, 5, "new connections see the new certificate")
        connection.sendall(request)
        assert http1.read_answer(connection).status == 200, "the old connection lives on"


def der(address):
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address, timeout=5))


def test_a_broken_new_certificate_keeps_the_old_one(secure):
    (secure.tls_directory / "cert.pem").rename(secure.tls_directory / "good.pem")
    (secure.tls_directory / "cert.pem").write_text("no certificate")
    until(lambda: "system.tls.cert" in secure.process.log(), 5, "the log names the field")
    assert curl(secure, "--cacert", secure.tls_directory / "good.pem")[1] == 200


def test_plain_http_on_a_tls_port_is_refused_and_harms_nobody(secure):
    with http1.connect(secure.base_url.replace("https", "http")) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
        try:
            assert b"200 OK" not in connection.recv(1000)
        except ConnectionResetError:
            pass
    assert curl(secure, "--cacert", secure.tls_directory / "cert.pem")[1] == 200


def test_an_upstream_is_reached_by_tls_and_its_certificate_is_checked(serve, upstreams, tmp_path):
    certificate, key = write_certificate(tmp_path / "upstream", "upstream")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusting = {"openai": {"tls": {"ca_file": str(certificate)}}}
    gateway = serve(upstreams(plain(CHAT), tls=context).url, channels=trusting)
    assert http1.chat(gateway).status == 200
    refused = http1.chat(gateway, "dashscope")
    assert refused.status == 502 and refused.code() == "upstream_unreachable"


def test_a_stream_over_http2_arrives_event_by_event(serve, upstreams):
    stream = HeldStream()
    gateway = serve(upstreams(stream).url)
    body = json.dumps(http1.chat_body(stream=True))
    command = ["curl", "--silent", "--no-buffer", "--http2-prior-knowledge", "--max-time", "10", "--json", body]
    command += ["--header", f"Authorization: {gateway.bearer()['Authorization']}"]
    with subprocess.Popen([*command, f"{gateway.base_url}/v1/chat/completions"], stdout=subprocess.PIPE) as caller:
        stream.event("one")
        assert b'"one"' in caller.stdout.readline()
        stream.event("two")
        assert b'"two"' in caller.stdout.readline() + caller.stdout.readline()
        stream.finish()
        assert b"[DONE]" in caller.stdout.read()
