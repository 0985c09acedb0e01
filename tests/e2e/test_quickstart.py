"""A new user's first minute: start the demo, paste what it printed, follow the README."""

import os
import signal
import subprocess

import pytest

from harness import binary, http1
from harness.documents import at, curl_commands, quickstart_blocks
from harness.polling import until
from harness.records import Records
from harness.sdk import HERE
from harness.tls import write_certificate

DIALECTS = {"openai", "anthropic", "gemini", "dashscope"}


class Demo:
    """`aiproxy demo`, which prints its keys on purpose."""

    def __init__(self, directory, *options):
        arguments = ("demo", "--listen", "127.0.0.1:0", "--data", directory / "data", *options)
        self.process = binary.Process(directory, *arguments, stdout_may_hold_secrets=True)


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path, "--output", "json")
    demo.told = demo.process.ready_line()
    yield demo
    demo.process.stop()


def bash(script, **variables):
    """Run a script as a user would paste it."""
    environment = {**binary.environment(), **variables}
    environment["PATH"] = f"{binary.PATH.parent}{os.pathsep}{HERE}/.venvs/.venv-new/bin{os.pathsep}{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_the_demo_tells_programs_where_everything_is(demo):
    assert {"base_url", "proxy_key", "admin_url", "admin_token", "upstream_url", "records"} <= set(demo.told)
    assert set(demo.told["proxy_keys"]) == DIALECTS
    assert demo.process.stdout.read_text().count("\n") == 1, "one line, so that a script can read it"


@pytest.mark.parametrize("which", ["proxy_key", *sorted(DIALECTS)])
def test_each_key_of_the_demo_gets_an_answer(demo, which):
    key = demo.told["proxy_key"] if which == "proxy_key" else demo.told["proxy_keys"][which]
    headers = {"Authorization": f"Bearer {key}"}
    answer = http1.call(demo.told["base_url"], "POST", "/v1/chat/completions", headers, http1.chat_body())
    assert answer.status == 200 and "hello" in answer.json()["choices"][0]["message"]["content"]
    kept = Records(demo.process.directory / "data/records.jsonl").one()
    assert kept["id"] == answer.request_id and kept["usage"]["output"] == answer.json()["usage"]["completion_tokens"]


def test_the_printed_curl_works_when_pasted(tmp_path):
    demo = Demo(tmp_path)
    printed = demo.process.stdout
    commands = until(lambda: curl_commands(printed.read_text()), 10, "the demo prints a curl command")
    for command in commands:
        pasted = bash(command)
        assert pasted.returncode == 0, pasted.stderr
        assert "You said" in pasted.stdout or "data:" in pasted.stdout, pasted.stdout
    demo.process.signal(signal.SIGINT)
    assert demo.process.wait(10) == 0


def run_block(language, program, directory, key, **variables):
    """Run one block of a document in its language."""
    if language == "js":  # packages are found from where a module lies
        path = HERE / "node/new" / f"quickstart-{os.getpid()}.mjs"
        script = f"node {path}"
    elif language == "python":
        path = directory / "quickstart.py"
        script = f"cd {directory} && python {path}"
    else:
        path = directory / "quickstart.sh"
        script = f"cd {directory} && bash -euo pipefail {path}"
    path.write_text(program)
    try:
        return bash(script, AIPROXY_KEY=key, **variables)
    finally:
        path.unlink()


READMES = [binary.REPOSITORY / name for name in ("README.md", "README.zh-CN.md")]
GUIDES = sorted((binary.REPOSITORY / "docs").rglob("*.md"))


def document_name(path):
    return str(path.relative_to(binary.REPOSITORY))


@pytest.mark.parametrize("document", READMES, ids=document_name)
def test_a_readme_has_a_quickstart(document):
    assert quickstart_blocks(document.read_text())


def test_every_config_and_every_link_in_the_documents_is_good():
    program = binary.REPOSITORY / "docs/check-examples"
    ran = bash(f"python3 {program}", AIPROXY_BIN=str(binary.PATH))
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("document", [*READMES, *GUIDES], ids=document_name)
def test_what_the_documents_say_to_run_runs(demo, document, tmp_path):
    blocks = quickstart_blocks(document.read_text())
    key = demo.told["proxy_key"]
    for language, program in blocks:
        program = at(demo.told["base_url"], program).replace("$AIPROXY_KEY", key)
        check_run(program, run_block(language, program, tmp_path, key))


def check_run(program, ran):
    assert ran.returncode == 0, f"{program}\n{ran.stdout}\n{ran.stderr}"
    assert ran.stdout.strip(), program


WITH_TLS = [document for document in GUIDES if quickstart_blocks(document.read_text(), tls=True)]


@pytest.mark.parametrize("document", WITH_TLS, ids=document_name)
def test_what_the_documents_say_to_run_with_tls_runs(serve, demo_upstream, document, tmp_path):
    """For SDKs that take no other address. Their runtimes are told of the certificate, not the programs."""
    certificate, key = write_certificate(tmp_path / "tls", "documents")
    system = {"tls": {"cert": str(certificate), "key": str(key)}}
    gateway = serve(demo_upstream.url, real_key=demo_upstream.real_key, system=system)
    trusted = {"SSL_CERT_FILE": str(certificate), "NODE_EXTRA_CA_CERTS": str(certificate)}
    for language, program in quickstart_blocks(document.read_text(), tls=True):
        program = at(gateway.base_url, program)
        check_run(program, run_block(language, program, tmp_path, gateway.keys["everyone"], **trusted))
