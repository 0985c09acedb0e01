"""Fixtures of all end-to-end tests."""

import itertools

import pytest

from harness import binary
from harness.gateway import DemoUpstream, Gateway
from harness.upstream import RawUpstream


def pytest_sessionstart():
    if not binary.PATH.exists():
        pytest.exit(f"{binary.PATH} does not exist; build it with: cargo build --release -p aiproxy", returncode=3)


@pytest.fixture(scope="session")
def demo_upstream(tmp_path_factory):
    """The provider that answers in every dialect."""
    upstream = DemoUpstream(tmp_path_factory.mktemp("demo-upstream"))
    yield upstream
    upstream.stop()


@pytest.fixture
def serve(tmp_path):
    """Start gateways that end with the test."""
    running = []
    number = itertools.count()

    def start(upstream_url, **options):
        gateway = Gateway(tmp_path / f"gateway-{next(number)}", upstream_url, **options)
        running.append(gateway)
        return gateway

    yield start
    for gateway in running:
        gateway.stop()


@pytest.fixture
def gateway(serve, demo_upstream):
    """A gateway in front of the demo upstream."""
    return serve(demo_upstream.url, real_key=demo_upstream.real_key)


@pytest.fixture
def upstreams():
    """Start raw upstreams that end with the test."""
    running = []

    def start(answer, **options):
        upstream = RawUpstream(answer, **options)
        running.append(upstream)
        return upstream

    yield start
    for upstream in running:
        upstream.stop()
