"""`aiproxy check`: every problem at once, each with its place, and an exit code for scripts."""

import json
import re

import pytest

from harness import binary
from harness.documents import environment_names
from harness.samples import BROKEN, SAMPLE


def check(tmp_path, text, name="aiproxy.yaml"):
    (tmp_path / name).write_text(text)
    return binary.run("check", "-c", name, cwd=tmp_path)


def problems(finished):
    """Line numbers and messages of `file:line:column: message`, without mere warnings."""
    found = re.findall(r"^\S*aiproxy\.yaml:(\d+):\d+: (.+)$", finished.stdout + finished.stderr, re.MULTILINE)
    return [(int(line), message) for line, message in found if not message.startswith("warning")]


def test_the_documented_sample_is_good(tmp_path):
    finished = check(tmp_path, SAMPLE)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert problems(finished) == []


def test_all_problems_are_told_with_file_line_and_column(tmp_path):
    finished = check(tmp_path, BROKEN)
    assert finished.returncode == 1
    found = problems(finished)
    assert [line for line, _ in found] == [4, 7, 11], finished.stdout + finished.stderr
    unknown_field, unknown_channel, bad_url = [message for _, message in found]
    assert "chanels" in unknown_field and "channels" in unknown_field, "a misspelt field gets a suggestion"
    assert "nowhere" in unknown_channel
    assert "url" in bad_url.lower()
    assert "xxx" not in finished.stdout + finished.stderr, "keys are not printed"


def test_problems_can_be_read_by_programs(tmp_path):
    (tmp_path / "aiproxy.yaml").write_text(BROKEN)
    finished = binary.run("check", "--output", "json", cwd=tmp_path)
    assert finished.returncode == 1
    found = [problem for problem in json.loads(finished.stdout) if problem["severity"] == "error"]
    assert [(problem["line"], problem["column"] > 0) for problem in found] == [(4, True), (7, True), (11, True)]


def test_a_file_that_is_no_yaml_is_told_with_its_place(tmp_path):
    finished = check(tmp_path, "users:\n  alice: [\n")
    assert finished.returncode == 1
    assert problems(finished), finished.stdout + finished.stderr


def test_a_missing_file_is_told(tmp_path):
    finished = binary.run("check", "-c", "absent.yaml", cwd=tmp_path)
    assert finished.returncode == 1
    assert "absent.yaml" in finished.stdout + finished.stderr


def test_a_directory_of_files_is_one_config(tmp_path):
    users, channels = SAMPLE.split("channels:\n  aliyun")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/10-users.yaml").write_text(users)
    (tmp_path / "config/20-channels.yaml").write_text("channels:\n  aliyun" + channels)
    finished = binary.run("check", "-c", "config", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr


EXAMPLES = sorted((binary.REPOSITORY / "examples").iterdir())


def variable(name):
    return f"https://{name.lower().replace('_', '-')}.example" if name.endswith("_URL") else f"value-of-{name}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_good_once_its_variables_are_set(example):
    files = [example] if example.is_file() else [path for path in example.rglob("*") if path.is_file()]
    names = {name for path in files for name in environment_names(path.read_text())}
    finished = binary.run("check", "-c", example, **{name: variable(name) for name in names})
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_schema_in_the_repository_is_the_one_the_binary_prints():
    printed = binary.run("schema").stdout
    assert printed == (binary.REPOSITORY / "schema/aiproxy.schema.json").read_text(), "scripts/check-generated --write"
