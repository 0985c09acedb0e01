"""Runs an official SDK's sockets against a gateway that speaks TLS, which most of them insist on."""

import pytest

from harness import secrets
from harness.gateway import Gateway
from harness.sdk import Sdk
from harness.tls import write_certificate
from harness.websocket import check_record

# The models that the keys of these gateways may use.
MODELS = ["demo*"]


def run(directory, demo_upstream, client, script, user, secure=True):
    """The finished run of one SDK, against `https://` or `http://`."""
    certificate, key = write_certificate(directory / "tls", "gateway")
    azure_key = secrets.canary("pk-azure")

    def change(config):
        config["channels"]["azure"] = {**config["channels"]["openai"], "kind": "azure", "name": "Azure"}
        config["users"]["azure"] = {**config["users"]["openai"], "proxy_key": azure_key, "channels": ["azure"]}
        for each in config["users"].values():
            each["models"] = MODELS
        if secure:
            config["system"]["tls"] = {"cert": str(certificate), "key": str(key)}

    gateway = Gateway(directory / "gateway", demo_upstream.url, demo_upstream.real_key, change=change)
    with gateway, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        patch.setenv("NODE_EXTRA_CA_CERTS", str(certificate))
        patch.setenv("AZURE_URL", gateway.base_url)
        patch.setenv("AZURE_KEY", azure_key)
        return Sdk(gateway, client, script, user)


def socket_record(sdk, scenario, channel, dialect, user=None, **expected):
    """The one record that the socket of a scenario left."""
    (record,) = sdk.records[scenario]
    return check_record(record, user or sdk.user, channel, dialect, **expected)


def refused_record(sdk, scenario, status, code):
    """The record of a handshake that was refused."""
    (record,) = sdk.records[scenario]
    seen = {name: record[name] for name in ("status", "error_code", "protocol", "attempts")}
    assert seen == {"status": status, "error_code": code, "protocol": "http", "attempts": []}
    return record


def used(record):
    """The numbers of a record that are not zero."""
    assert record["usage_source"] == "provider", record
    return {name: value for name, value in record["usage"].items() if value}


def added_up(usages, **names):
    """What an SDK was told, added up over responses: `names` are functions of one usage, by the record's words."""
    sums = {name: sum(count(usage) or 0 for usage in usages) for name, count in names.items()}
    return {name: value for name, value in sums.items() if value}


def inside(*path):
    """Reads a number inside a usage; details are spelled in the singular, the plural, or are missing."""

    def read(usage):
        for step in path:
            spellings = (step, step.replace("_token_details", "_tokens_details"))
            usage = next((usage[spelling] for spelling in spellings if usage.get(spelling) is not None), {})
        return usage or 0

    return read


def realtime_usage(usages):
    """The usages of Realtime and Responses, in the words of the record."""
    return added_up(
        usages,
        input=inside("input_tokens"),
        output=inside("output_tokens"),
        cached=inside("input_token_details", "cached_tokens"),
        reasoning=inside("output_token_details", "reasoning_tokens"),
        audio_input=inside("input_token_details", "audio_tokens"),
        audio_output=inside("output_token_details", "audio_tokens"),
        image_input=inside("input_token_details", "image_tokens"),
    )
