"""Protects who may read: methods, host names, tokens, and what the browser is told it may do."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from redi_ray.ui.app import create_app
from redi_ray.ui.guard import COOKIE, is_loopback

TOKEN = "a-secret-of-many-letters"


def client(token: str | None = None, **options: object) -> TestClient:
    app = create_app(["nowhere"], token, **options)  # type: ignore[arg-type]
    return TestClient(app, base_url="http://localhost:8400", follow_redirects=False)


def test_nothing_can_be_written():
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client().request(method, "/").status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8400", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
def test_a_name_that_somebody_points_to_this_machine_is_refused(host: str):
    assert client().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8400", "127.0.0.1:1", "[::1]:8400"])
def test_this_machine_is_known_by_its_own_names(host: str):
    assert client().get("/", headers={"host": host}).status_code == 200


def test_scripts_and_requests_of_others_are_forbidden_on_every_answer():
    for path in ("/", "/nothing", "/assets/plotly.js", "/run/none"):
        headers = client().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"


def test_without_the_token_nothing_is_answered():
    asked = client(TOKEN, hosts=())
    for path in ("/", "/assets/ui.css", "/runs.json", "/?token=wrong", "/?token="):
        assert asked.get(path, headers={"host": "gpu7:8400"}).status_code == 401
    assert asked.get("/", headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert asked.get("/", headers={"cookie": f"{COOKIE}=wrong"}).status_code == 401


def test_the_token_in_the_address_becomes_a_cookie():
    asked = client(TOKEN, hosts=())
    answer = asked.get(f"/?text=a+b&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?text=a+b")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert asked.get("/").status_code == 200  # the client keeps cookies as a browser does
    assert client(TOKEN, hosts=()).get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_does_not_lead_elsewhere():
    answer = client(TOKEN, hosts=()).get(f"//evil.example/?token={TOKEN}")
    assert not answer.headers.get("location", "/").startswith(("//", "http"))


def test_a_server_for_others_needs_a_token():
    with pytest.raises(ValueError, match="token"):
        client(None, hosts=()).get("/")


def test_addresses_that_only_this_machine_reaches():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.3.2.1", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.4", "gpu7", "localhost.evil.example")))
