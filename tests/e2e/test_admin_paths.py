"""Nothing under an admin path answers without a credential, and none of it goes to an upstream."""

import pytest

from harness import http1, secrets
from harness.upstream import CHAT, plain

ADMIN_PATHS = ["/stats", "/dashboard", "/metrics", "/admin/api/v1/status", "/admin/api/v1/users", "/admin"]


@pytest.fixture
def token():
    return secrets.canary("admin")


@pytest.mark.parametrize("path", ADMIN_PATHS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}], ids=["no credential", "a wrong one"])
def test_nobody_gets_in_without_the_admin_token(serve, upstreams, token, path, headers):
    upstream = upstreams(plain(CHAT))
    gateway = serve(upstream.url, system={"admin": {"token": token}})
    assert http1.call(gateway.base_url, "GET", path, headers).status in (401, 404)
    assert upstream.requests == []


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_a_proxy_key_is_no_admin_token_and_reaches_no_upstream_there(serve, upstreams, token, path):
    upstream = upstreams(plain(CHAT))
    gateway = serve(upstream.url, system={"admin": {"token": token}})
    assert http1.call(gateway.base_url, "GET", path, gateway.bearer()).status in (401, 403, 404)
    assert upstream.requests == []


def test_health_and_readiness_need_no_credential_and_say_little(gateway):
    for path in ("/health", "/ready"):
        answer = http1.call(gateway.base_url, "GET", path)
        assert answer.status == 200 and len(answer.body) < 200


def test_a_first_start_makes_an_admin_token_that_nobody_can_guess(gateway):
    assert http1.call(gateway.base_url, "GET", "/admin/api/v1/status", {"Authorization": "Bearer admin"}).status == 401
