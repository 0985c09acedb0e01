"""The openai packages' side of WebRTC calls, one command after the other: they exchange what a caller's peer says."""

import json
import subprocess

from harness import binary
from harness.sdk import command

# The generations that have it.
CALLS = ("python-new", "node-new")


class OpenAi:
    """A running program of one of the openai packages, with a user's key."""

    def __init__(self, gateway, client, user="openai"):
        program, directory = command(client, "openai_calls")
        self.process = subprocess.Popen(
            [*program, gateway.base_url, gateway.keys[user]],
            cwd=directory,
            env={**binary.environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name, **arguments):
        """The answer to one command."""
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the program ended: {self.process.wait(10)}"
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
