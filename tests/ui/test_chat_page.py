"""The page that asks models takes questions from itself alone, shows what they say as text, and judges what the run knows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from talk_runs import talker_run

from redi_ray.ui.app import create_app

HOST = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def talk_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return talker_run(tmp_path_factory.mktemp("talk"))


@pytest.fixture
def client(talk_run: str) -> Iterator[TestClient]:
    app = create_app([talk_run])
    yield TestClient(app, base_url=HOST)
    app.state.talk.process.close()


def fields(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
    return {name: html.unescape(value) for name, value in found}


def address(client: TestClient) -> str:
    return re.findall(r'/run/[^"/]+', client.get("/").text)[0] + "/chat"


def test_a_question_is_answered_judged_and_gone_on_from(client: TestClient):
    where = address(client)
    first = client.get(where).text
    assert 'value="base" checked' in first
    hostile = '<script>alert(1)</script>" onload="x'
    sent = {**fields(first), "model": "base", "question": "case 0: RED", "temperature": "0", "max_tokens": "40"}
    answered = client.post(where, data=sent, headers={"origin": HOST})
    assert answered.status_code == 200
    assert "boxed{RED}" in answered.text
    assert 'class="verdict correct"' in answered.text
    assert "problem <bdi>p0</bdi>; the answer is <bdi>RED</bdi>" in answered.text
    more = client.post(where, data={**sent, **fields(answered.text), "question": hostile, "max_tokens": "2"})
    assert more.status_code == 200
    assert "<script" not in more.text
    assert "boxed{RED}" in more.text  # what was said before
    assert "cut off at its limit" in more.text
    begun = client.post(where, data={**fields(more.text), "new": "1", "model": "base"})
    assert "boxed{RED}" not in begun.text
    problem = client.post(where, data={**sent, "question": "", "problem": "p1"})
    assert 'class="verdict wrong"' in problem.text


def test_only_our_own_page_may_ask(client: TestClient):
    where = address(client)
    sent = {**fields(client.get(where).text), "model": "base", "question": "x"}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post(where, data=sent, headers=headers).status_code == 403
    assert client.post(where, data={**sent, "key": "guessed"}).status_code == 400
    assert client.post(where.removesuffix("/chat"), data=sent).status_code == 405
    assert client.put(where, data=sent).status_code == 405
    for wrong, status in (({"question": ""}, 400), ({"model": "nobody"}, 400), ({"max_tokens": "many"}, 400)):
        assert client.post(where, data={**sent, **wrong}).status_code == status
    assert client.post(where, content=b"x=" + b"y" * 2_000_000).status_code == 400
