"""Canary secrets: every key the tests use is made here, and no process may ever write one down.

The words are random per run, so that a hit can only be a leak.
"""

import secrets as random_words

_MADE = []


def canary(label):
    """A new secret that must never appear in anything the gateway writes."""
    return keep(f"{label}-canary-{random_words.token_hex(12)}")


def keep(value):
    """A secret that a gateway made; it is as secret as those made here."""
    _MADE.append(value)
    return value


def assert_none_in(paths):
    """Fail if any of the files holds any secret made so far."""
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # what is kept of open calls goes with them
        for secret in _MADE:
            if secret.encode() in content:
                where = content.index(secret.encode())
                around = content[max(0, where - 200) : where + 60].decode(errors="replace")
                raise AssertionError(f"secret {secret!r} leaked into {path.name}: …{around}…")
