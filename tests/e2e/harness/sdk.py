"""Runs one official SDK's scenarios in its own environment against a gateway, and pairs what it saw with the records."""

import itertools
import json
import subprocess
from pathlib import Path

from harness import binary

HERE = Path(__file__).resolve().parents[1]
CLIENTS = ("python-new", "python-old", "node-new", "node-old")


def command(client, script):
    """How to run a scenario script as one client, and where."""
    language, generation = client.split("-")
    if language == "python":
        return [HERE / f".venvs/.venv-{generation}/bin/python", HERE / f"python/{script}.py"], HERE / "python"
    return ["node", HERE / f"node/{script}.mjs"], HERE / f"node/{generation}"


class Sdk:
    """The finished run of one SDK: what each scenario saw, and the records its calls left."""

    def __init__(self, gateway, client, script, user, timeout=120):
        program, directory = command(client, script)
        finished = subprocess.run(
            [*program, gateway.base_url, gateway.keys[user]],
            cwd=directory,
            env={**binary.environment(), "DISABLED_KEY": gateway.keys["leaver"], "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        lines = finished.stdout.splitlines()
        assert finished.returncode == 0 and lines, finished.stdout[-3000:] + finished.stderr[-3000:]
        self.user = user
        self.results = json.loads(lines[-1])
        records = iter(gateway.finish())
        self.records = {
            result["scenario"]: list(itertools.islice(records, result.get("calls", 1))) for result in self.results
        }
        self.surplus = list(records)
        self.gateway_log = gateway.process.log()

    def saw(self, scenario):
        """What the SDK returned; fails with the SDK's own traceback if it raised."""
        result = next((result for result in self.results if result["scenario"] == scenario), None)
        assert result, f"{scenario} is not among the scenarios of this SDK"
        assert "raised" not in result, result["raised"] + "\n" + json.dumps(self.records[scenario], indent=1)
        return result

    def record(self, scenario, channel, dialect, model=None, **expected):
        """The one record of a scenario's only call, checked for what holds for every successful call."""
        (record,) = self.records[scenario]
        return check_record(record, self.user, channel, dialect, model, **expected)

    def assert_no_surplus(self):
        """As many records as calls."""
        assert not self.surplus, self.surplus
        for result in self.results:
            assert len(self.records[result["scenario"]]) == result.get("calls", 1), result


def check_record(record, user, channel, dialect, model=None, status=200, end="complete", **expected):
    """A record that describes a call that went well, unless told otherwise."""
    seen = {name: record.get(name) for name in ("user_id", "key_id", "channel_id", "dialect", "status", "end", *expected)}
    wanted = {"user_id": user, "key_id": user, "channel_id": channel, "dialect": dialect, "status": status, "end": end}
    assert seen == {**wanted, **expected}, record
    if model:
        assert record["model_asked"] == model and record["model_served"] == model, record
    assert record["department"] == "Testing" and record["protocol"] in ("http", "sse"), record
    assert record["response_bytes"] > 0 and record["duration_ms"] >= 0, record
    return record


def usage_of(record):
    """The numbers of a record that are not zero or absent."""
    assert record["usage_source"] == "provider", record
    return {name: value for name, value in record["usage"].items() if value}


def numbers(**usage):
    """What an SDK reported, without the zeros."""
    return {name: value for name, value in usage.items() if value}


def openai_usage(usage):
    """The usage object of chat, embeddings or Responses, in the words of the record."""
    inputs = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return numbers(
        input=usage.get("prompt_tokens") or usage.get("input_tokens"),
        output=usage.get("completion_tokens") or usage.get("output_tokens"),
        cached=inputs.get("cached_tokens"),
        reasoning=outputs.get("reasoning_tokens"),
    )


def counted(record):
    """A record's token counts, for comparison with what an SDK reported."""
    usage = usage_of(record)
    return {name: usage[name] for name in ("input", "output", "cached", "cache_write", "reasoning") if name in usage}
