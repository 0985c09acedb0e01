"""Runs one SDK's scenarios in order and prints one JSON line of what each of them saw.

A scenario is a function that uses the SDK as its documentation shows and returns plain data. One that raises is
reported with its traceback; the others still run.
"""

import json
import sys
import time
import traceback

BASE_URL, KEY = sys.argv[1:3]
_SCENARIOS = []


def scenario(function):
    """Mark a function as a scenario."""
    _SCENARIOS.append(function)
    return function


def refusal(call, error_class):
    """What the SDK makes of a refused call."""
    try:
        call()
    except error_class as error:
        return {
            "error": type(error).__name__,
            "code": getattr(error, "code", None),
            "status": getattr(error, "status_code", None),
            "message": str(error),
        }
    raise AssertionError(f"the call was not refused with {error_class.__name__}")


def next_millisecond():
    """Record ids are ordered by millisecond; calls further apart than that can be told from each other."""
    time.sleep(0.003)


def run():
    """Run all scenarios and print what they saw."""
    results = []
    for function in _SCENARIOS:
        next_millisecond()
        try:
            saw = function()
        except Exception:
            saw = {"raised": traceback.format_exc(limit=-6)}
        results.append({"scenario": function.__name__, **saw})
    print(json.dumps(results))
