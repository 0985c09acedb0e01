"""The commands and programs that the documents show, taken out so that tests can run them.

A fenced block is run if its info string ends in `quickstart`: `sh quickstart`, `console quickstart` (only its `$` lines),
`python quickstart` or `js quickstart`. A document writes the gateway's address as http://127.0.0.1:8001 or
ws://127.0.0.1:8001, and the proxy key as `$AIPROXY_KEY`; the test puts the real ones in. A program of an SDK that wants
TLS is marked `quickstart tls` and writes https://localhost:8443.
"""

import re

VARIABLE = re.compile(r"(?:env:|\$\{)(\w+)")
FENCE = re.compile(r"^```(\w+) quickstart( tls)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def quickstart_blocks(text, tls=False):
    """(language, program) of every block that is to be run, in order; of those that want TLS, or of the others."""
    blocks = [(language, program) for language, with_tls, program in FENCE.findall(text) if bool(with_tls) == tls]
    return [(language, shell_lines(program) if language == "console" else program) for language, program in blocks]


def at(address, program):
    """A program of a document with the address of the gateway that runs."""
    program = program.replace("ws://127.0.0.1:8001", address.replace("http", "ws", 1))
    return program.replace("http://127.0.0.1:8001", address).replace("https://localhost:8443", address)


def environment_names(config):
    """The environment variables that a config refers to."""
    return set(VARIABLE.findall(config))


def shell_lines(transcript):
    """The commands of a terminal transcript: what follows `$ `, with its continuation lines."""
    commands, going_on = [], False
    for line in transcript.splitlines():
        if line.startswith("$ ") or going_on:
            commands.append(line.removeprefix("$ "))
            going_on = line.endswith("\\")
    return "\n".join(commands) + "\n"


def curl_commands(text):
    """Every curl command in a text, with its continuation lines."""
    commands = re.findall(r"^\s*(curl(?:[^\n]*\\\n)*[^\n]*)$", text, re.MULTILINE)
    return [command.strip() for command in commands]
