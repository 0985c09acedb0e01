"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import time


def until(condition, within, what):
    """Return the first truthy value of `condition()`; fail with `what` when `within` seconds have passed."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s")
        time.sleep(0.01)
