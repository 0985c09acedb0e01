"""`aiproxy serve` at its start: what it says when it cannot run, and that the documented sample runs unchanged."""

from harness import binary, http1
from harness.samples import BROKEN, SAMPLE


def test_a_missing_file_ends_with_advice(tmp_path):
    finished = binary.run("serve", "-c", "absent.yaml", cwd=tmp_path)
    assert finished.returncode == 1 and finished.stdout == ""
    assert "absent.yaml" in finished.stderr
    assert "panicked" not in finished.stderr


def test_a_broken_file_ends_with_every_problem(tmp_path):
    (tmp_path / "aiproxy.yaml").write_text(BROKEN)
    finished = binary.run("serve", cwd=tmp_path)
    assert finished.returncode == 1
    for place in ("aiproxy.yaml:4:", "aiproxy.yaml:7:", "aiproxy.yaml:11:"):
        assert place in finished.stderr, finished.stderr


def test_a_taken_port_ends_with_advice(gateway, tmp_path):
    port = gateway.base_url.rsplit(":", 1)[1]
    (tmp_path / "aiproxy.yaml").write_text(SAMPLE + f'  listen: "127.0.0.1:{port}"\n')
    finished = binary.run("serve", cwd=tmp_path)
    assert finished.returncode == 1
    assert port in finished.stderr and "panicked" not in finished.stderr


def test_the_documented_sample_runs_as_it_is(tmp_path):
    (tmp_path / "aiproxy.yaml").write_text(SAMPLE + '  listen: "127.0.0.1:0"\n')
    process = binary.Process(tmp_path, "serve", "--output", "json")
    base_url = process.ready_line()["base_url"]
    assert http1.call(base_url, "GET", "/health").status == 200
    assert http1.call(base_url, "GET", "/ready").status == 200
    refused = http1.call(base_url, "POST", "/v1/chat/completions", {}, http1.chat_body())
    assert refused.status == 401 and refused.code() == "missing_credential"
    process.stop()


def test_secrets_come_from_the_environment_and_from_files(serve, demo_upstream, tmp_path, monkeypatch):
    (tmp_path / "real.key").write_text(demo_upstream.real_key + "\n")
    monkeypatch.setenv("E2E_PROXY_KEY", "pk-from-the-environment")

    def change(config):
        config["channels"]["openai"]["api_key"] = f"file:{tmp_path}/real.key"
        config["users"]["openai"]["proxy_key"] = "${E2E_PROXY_KEY}"

    gateway = serve(demo_upstream.url, change=change)
    gateway.keys["openai"] = "pk-from-the-environment"
    assert http1.chat(gateway).status == 200


def test_help_names_every_command():
    finished = binary.run("--help")
    assert finished.returncode == 0
    for command in ("serve", "demo", "check"):
        assert command in finished.stdout
    assert binary.run("no-such-command").returncode == 2
