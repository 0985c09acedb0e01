"""The built binary as a process: start it, read what it says when it is ready, stop it, look for leaked secrets.

Every process writes its output into files of its own directory, so that nothing is lost and everything can be scanned.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

from harness import secrets
from harness.polling import until

REPOSITORY = Path(__file__).resolve().parents[3]
PATH = Path(os.environ.get("AIPROXY_BIN", REPOSITORY / "target/release/aiproxy")).resolve()
START_DEADLINE = 15
STOP_DEADLINE = 20


def run(*arguments, cwd=None, **variables):
    """Run a command of the binary to its end, with these environment variables."""
    command = [PATH, *map(str, arguments)]
    env = {**environment(), **variables}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=30)


def environment():
    """The caller's environment without anything that could steer the gateway or reach a real provider."""
    unwanted = ("AIPROXY_", "OPENAI_", "ANTHROPIC_", "DASHSCOPE_", "GOOGLE_", "GEMINI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}


class Process:
    """One running `aiproxy` command."""

    def __init__(self, directory, *arguments, stdout_may_hold_secrets=False):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.stdout = directory / "stdout.txt"
        self.stderr = directory / "stderr.txt"
        self.stdout_may_hold_secrets = stdout_may_hold_secrets
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.popen = subprocess.Popen(
                [PATH, *map(str, arguments)],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
            )
        self.arguments = arguments

    def ready_line(self):
        """The one JSON line that says where it listens."""
        line = until(self._first_line_or_death, START_DEADLINE, f"aiproxy {self.arguments} prints where it listens")
        return json.loads(line)

    def _first_line_or_death(self):
        text = self.stdout.read_text()
        if "\n" in text:
            return text.splitlines()[0]
        if self.popen.poll() is not None:
            raise AssertionError(f"aiproxy {self.arguments} exited {self.popen.returncode}: {self.log()}")
        return None

    def log(self):
        return self.stderr.read_text(errors="replace")

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, within=STOP_DEADLINE):
        return self.popen.wait(within)

    def resident_kib(self):
        """Resident memory now."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def peak_resident_kib(self):
        """Largest resident memory so far."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def stop(self):
        """End it politely; it must obey, not have panicked, and have written no secret anywhere."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError(f"aiproxy {self.arguments} ignored SIGTERM: {self.log()[-2000:]}") from None
        assert "panicked at" not in self.log(), self.log()[:3000]
        secrets.assert_none_in(self.written_files())

    def written_files(self):
        """Everything it has written, except what it prints on purpose."""
        hidden = {self.stdout} if self.stdout_may_hold_secrets else set()
        written = [*self.directory.glob("*.txt"), *self.directory.rglob("*.jsonl*")]
        return [path for path in written if path not in hidden]
