"""`aiproxy serve` on a config of the test's own, with channels of every kind in front of one upstream."""

import json
import signal
from pathlib import Path

from harness import secrets
from harness.binary import Process
from harness.records import Records

KINDS = ("openai", "anthropic", "gemini", "dashscope")


class Gateway:
    """A running gateway. `keys` maps a user to the proxy key of that user.

    There is one user per kind, mapped to the channel of that name, `everyone`, mapped to all of them, and `leaver`,
    who is disabled. Tests change `config` and call `write_config`.
    """

    def __init__(self, directory, upstream_url, real_key=None, channels=None, system=None, change=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.real_key = real_key or secrets.canary("real")
        names = (*KINDS, "everyone", "leaver")
        self.keys = {name: secrets.canary(f"pk-{name}") for name in names}
        self.config = {
            "users": {name: self._user(name) for name in names},
            "channels": {kind: self._channel(kind, upstream_url, rank) for rank, kind in enumerate(KINDS)},
            "system": {
                "listen": "127.0.0.1:0",
                "data_dir": "data",
                "log_level": "debug",
                "log": {"console": False, "file": {"path": "records.jsonl"}},
                **(system or {}),
            },
        }
        for channel, fields in (channels or {}).items():
            self.config["channels"].setdefault(channel, {}).update(fields)
        if change:
            change(self.config)
        self.config_path = self.directory / "aiproxy.json"
        self.write_config()
        self.process = Process(self.directory, "serve", "-c", self.config_path, "--output", "json")
        self.base_url = self.process.ready_line()["base_url"]
        self.records = Records(self.directory / "data/records.jsonl")

    def _user(self, name):
        return {
            "name": name.title(),
            "department": "Testing",
            "proxy_key": self.keys[name],
            "status": "disabled" if name == "leaver" else "active",
            "channels": [name] if name in KINDS else list(KINDS),
        }

    def _channel(self, kind, upstream_url, rank):
        # Most tests make the upstream fail on purpose and then call again; those of health switch it on.
        where = {"kind": kind, "base_url": upstream_url, "priority": rank, "health": False}
        return {"name": kind.title(), "api_key": self.real_key, **where}

    def write_config(self):
        """Write the config as an editor does that saves by renaming."""
        draft = self.config_path.with_suffix(".draft")
        draft.write_text(json.dumps(self.config, indent=2))
        draft.rename(self.config_path)

    def bearer(self, user="openai"):
        return {"Authorization": f"Bearer {self.keys[user]}"}

    def restart(self):
        """Start it again after its process has ended."""
        self.process = Process(self.directory, "serve", "-c", self.config_path, "--output", "json")
        self.base_url = self.process.ready_line()["base_url"]

    def stop(self):
        self.process.stop()

    def finish(self):
        """Stop it and return all it recorded."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0, self.process.log()[-2000:]
        self.process.stop()
        return self.records.all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class DemoUpstream:
    """`aiproxy demo-upstream`: the demo's provider side alone, without pauses between events."""

    def __init__(self, directory):
        self.real_key = secrets.canary("real")
        options = ["--listen", "127.0.0.1:0", "--api-key", self.real_key, "--pace", "0", "--output", "json"]
        self.process = Process(directory, "demo-upstream", *options)
        self.url = self.process.ready_line()["upstream_url"]

    def stop(self):
        self.process.stop()
