"""The look at an endpoint before the start: what is wrong with a base URL is told, with what to write instead."""

from __future__ import annotations

import pytest
from chat_server import ChatServer, Reply, completion

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.load import ConfigError, load_config
from redi_ray.data.sample.endpoint_check import check_endpoint, endpoint_key
from redi_ray.data.sample.endpoint_errors import EndpointError

MISSING = Reply(404, {"detail": "Not Found"})
PAGE = Reply(200, b"<!doctype html><title>Welcome</title>")


def server(**changes: Reply) -> ChatServer:
    return ChatServer(lambda body, tries: completion("four"), **changes)


def check(base_url: str) -> None:
    check_endpoint(EndpointSettings(base_url=base_url, model="m"), None)


@pytest.mark.parametrize("elsewhere", [MISSING, PAGE, Reply(405, b"no"), Reply(501, b"<html>POST?</html>")])
@pytest.mark.parametrize("path", ["", "/", "/v1/models", "/v1/x", "/api", "/v2", "/v1/v1"])
def test_a_wrong_path_is_told_with_the_right_one(elsewhere: Reply, path: str):
    with server(elsewhere=elsewhere) as lost:
        origin = lost.url.removesuffix("/v1")
        with pytest.raises(EndpointError, match=f"is no place of a chat API.*write base_url: {lost.url}$"):
            check(origin + path)
        assert not lost.seen


def test_a_wrong_path_of_a_server_without_a_list_of_models():
    with server(models=MISSING, elsewhere=MISSING) as lost:
        check(lost.url + "//")
        with pytest.raises(EndpointError, match="check its path, which mostly ends with the version"):
            check(lost.url + "/x")


@pytest.mark.parametrize(
    "models", [MISSING, PAGE, Reply(200, b""), Reply(500, b"oops"), Reply(200, {"data": 5}), Reply(405)]
)
@pytest.mark.parametrize("empty_chat", [Reply(400, b"{}"), Reply(422, b"{}"), Reply(500, b"<html>"), Reply(reset=True)])
def test_servers_without_a_list_of_models_will_do(models: Reply, empty_chat: Reply):
    """An empty chat shows that chats are answered; it costs nothing."""
    with server(models=models) as plain:
        plain.empty_chat = empty_chat
        check(plain.url)
        assert not plain.seen


def test_a_list_without_a_frame():
    with server(models=Reply(200, [{"id": "m"}])) as plain:
        plain.empty_chat = MISSING
        check(plain.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_with_its_target(status: int):
    """Also relative ones, and without the query, which may hold a session."""
    moved = Reply(status, b"", {"location": "https://new.example/v1/models?session=5"})
    with server(models=moved) as old:
        with pytest.raises(
            EndpointError, match=r"redirects to https://new.example/v1/models; write base_url: https://new.example/v1 "
        ) as told:
            check(old.url)
        assert "session" not in str(told.value)
        old.models = Reply(status, b"", {"location": "/login?next=x"})
        with pytest.raises(EndpointError, match=r"redirects to http://127.0.0.1:\d+/login; write as base_url where"):
            check(old.url)
        old.models, old.empty_chat = MISSING, Reply(status, b"", {"location": "/api/v3/chat/completions"})
        with pytest.raises(EndpointError, match=r"write base_url: http://127.0.0.1:\d+/api/v3 "):
            check(old.url)


@pytest.mark.parametrize("status", [300, 304, 307])
def test_a_redirect_to_nowhere(status: int):
    with server(models=Reply(status, b"")) as old, pytest.raises(EndpointError, match="redirects to nowhere"):
        check(old.url)


def test_a_server_without_a_list_that_looks_for_the_model_first():
    with server(models=MISSING) as plain:
        plain.empty_chat = Reply(404, {"error": {"code": "model_not_found", "message": "no such model"}})
        with pytest.raises(EndpointError, match="has no model 'm'"):
            check(plain.url)


def test_names_that_are_no_unicode(caplog: pytest.LogCaptureFixture):
    with server(models=Reply(200, {"data": [{"id": "n\ud835"}, {"id": 5}]})) as plain:
        with caplog.at_level("WARNING", logger="redi_ray"):
            check(plain.url)
    assert r"only n\ud835, 5" in caplog.text


@pytest.mark.parametrize(
    "base_url",
    [
        "http://h/v1/chat/completions",
        "http://h/v1/chat/completions/",
        "http://h/v1/completions",
        "http://h:99999/v1",
        "http://h:x/v1",
    ],
)
def test_urls_that_cannot_be_right_are_refused_with_the_config(base_url: str):
    given = f"generate={{kind: endpoint, endpoint: {{base_url: '{base_url}', model: m}}}}"
    with pytest.raises(ConfigError, match=r"write base_url: http://h/v1\b|[Pp]ort"):
        load_config("configs/demo.yaml", [given])


@pytest.mark.parametrize("body", ["{x: .nan}", "{x: 2020-01-01}", '{x: "\\ud835"}'])
def test_bodies_that_cannot_be_sent_are_refused_with_the_config(body: str):
    given = f"generate={{kind: endpoint, endpoint: {{base_url: 'http://h/v1', model: m, extra_body: {body}}}}}"
    with pytest.raises(ConfigError, match="extra_body must be what JSON"):
        load_config("configs/demo.yaml", [given])


@pytest.mark.parametrize("value", ["abc\ndef", "schl\u00fcssel", "a\tb"])
def test_a_key_that_is_none_is_not_sent(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("TEACHER_API_KEY", value)
    keyed = EndpointSettings(base_url="http://h/v1", model="m", api_key_env="TEACHER_API_KEY")
    with pytest.raises(EndpointError, match="characters that no key has") as told:
        endpoint_key("generate.endpoint", keyed)
    assert value not in str(told.value)
