"""Pages of rows: what a form asks for comes, every link holds, a pair is scored by two models, and no text does anything."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from rows_run import HARM, PAIRS, TEXTS, id_of

from redi_ray.report.token_series import Reader
from redi_ray.store.manifests import current_manifest
from redi_ray.ui.token_jobs import TokenJobs, TooLarge, Wanted, require_room

PLAIN = PAIRS[0][0]


class Found(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text that is read."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self, begins: str) -> list[str]:
        return [of["href"] for tag, of in self.elements if tag == "a" and of["href"].startswith(begins)]


@pytest.fixture(scope="module")
def run(rows_app: tuple[str, Any]) -> str:
    return rows_app[0]


@pytest.fixture(scope="module")
def client(rows_app: tuple[str, Any]) -> TestClient:
    app = rows_app[1]
    return TestClient(app, base_url=f"http://localhost{app.state.places.all()[0].path}")


def got(client: TestClient, place: str, *asked: tuple[str, str]) -> Found:
    answer = client.get(f"{place}{'?' if asked else ''}{urlencode(asked)}")
    assert answer.status_code == 200, answer.text
    return Found(answer.text)


def followed(client: TestClient, link: str) -> Found:
    answer = client.get(f"{link}")
    assert answer.status_code == 200, answer.text
    return Found(answer.text)


def test_every_row_of_every_step_has_a_link_that_holds(client: TestClient):
    """From the list to the row, and to its texts as they are, whatever is in its id."""
    steps = got(client, "rows").links("rows?step=")
    assert steps == [f"rows?step={name}" for name in ("verified", "curated", "likely", "located", "scored")]
    for step in [*steps, "rows?step=curated&table=rejects"]:
        links = followed(client, step).links("row?")
        assert len(links) == {"curated": 4, "curated&table=rejects": 1}.get(step.removeprefix("rows?step="), 11)
        for link in links:
            page = followed(client, link)
            for text in page.links("row.txt?"):
                assert client.get(f"{text}").headers["content-type"] == "text/plain; charset=utf-8"
    for name, text in TEXTS.items():
        asked = [("step", "verified"), ("id", id_of(name))]
        page = got(client, "row", *asked)
        assert re.sub(r"\s", "", id_of(name).replace("\u202e", "\u2039U+202E\u203a")) in re.sub(r"\s", "", page.text)
        whole = client.get(f"row.txt?{urlencode([*asked, ('part', 'completion')])}")
        assert whole.content == text.encode()


def test_a_form_asks_for_what_comes(client: TestClient):
    def names(*asked: tuple[str, str]) -> list[str]:
        page = got(client, "rows", ("step", "verified"), *asked)
        return [re.sub(r".*id=([^&%]+).*", r"\1", link) for link in page.links("row?")]

    assert names(("verdict", "correct")) == ["arabic"]
    assert names(("text", "STEP 1")) == ["plain"]
    assert names(("score", "scored"), ("score_from", "3"), ("score_to", "4")) == ["template", "nul"]
    assert names(("tokens_from", "1,000")) == ["huge"]
    assert names(("chars_from", "1000"), ("verdict", "wrong"), ("verdict", "correct"), ("source", "")) == ["huge"]
    assert names(("voter", "math_verify"), ("vote", "wrong"), ("text", "4. step 2")) == ["plain"]
    assert names(("voter", "math_verify"), ("vote", "correct")) == []
    page = got(client, "rows", ("step", "verified"), ("text", "document.title"), ("verdict", "wrong"))
    kept = [of for tag, of in page.elements if tag == "input" and of.get("name") in ("text", "verdict")]
    assert [of["value"] for of in kept if of["name"] == "text" or "checked" in of] == ["document.title", "wrong"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("step=nothing", "no step named nothing"),
        ("step=verified&tokens_from=many", "tokens_from: 'many' is no number"),
        ("step=verified&tokens_from=nan", "is no number"),
        ("step=verified&after=x", "no place of a row"),
        ("step=verified&verdict=rong", "no verdict rong"),
        ("step=verified&score=taste&score_from=1", "no column taste with numbers"),
        ("step=verified&table=pairs", "has no pairs"),
        ("step=curated&tokens_from=1", "no `num_tokens`, so it cannot be filtered by"),
    ],
)
def test_what_cannot_be_asked_is_told(client: TestClient, asked: str, told: str):
    answer = client.get(f"rows?{asked}")
    assert answer.status_code == 400
    assert told in Found(answer.text).text


def test_rows_that_are_not_there_are_told(client: TestClient):
    for asked, told in (
        ("step=verified&id=nobody", "no row 'nobody'"),
        ("step=verified", "names its id, or its place"),
        ("step=verified&id=plain%230&score=gpt", "no finished model gpt; there are base, sft, redi"),
    ):
        answer = client.get(f"row?{asked}")
        assert (answer.status_code, told in Found(answer.text).text) == (400, True)


def test_no_text_does_anything(client: TestClient):
    """Elements and attributes of a page are ours alone, nothing is loaded from elsewhere, and texts are read as they stand."""
    pages = [got(client, "rows", ("step", step)) for step in ("verified", "curated", "scored")]
    pages += [
        got(client, "rows", ("step", "verified"), ("text", HARM)),
        got(client, "rows", ("step", "verified"), ("source", HARM)),
    ]
    pages += [got(client, "row", ("step", "verified"), ("id", id_of(name))) for name in [*TEXTS, "turns"]]
    pages += [got(client, "row", ("step", "curated"), ("id", name)) for name, *_ in PAIRS]
    rejects = got(client, "rows", ("step", "curated"), ("table", "rejects"))
    pages += [rejects, followed(client, rejects.links("row?")[0])]
    for page in pages:
        for tag, of in page.elements:
            assert tag not in ("img", "style", "iframe", "object", "embed", "b" if "onerror" in of else "embed")
            assert not any(name.startswith("on") or name == "style" for name in of), (tag, of)
            for place in (of.get("src", ""), of.get("href", ""), of.get("action", "")):
                assert place == "data:," or not re.match(r"[a-z]+:|//", place), place
        scripts = [of for tag, of in page.elements if tag == "script"]
        assert all(of.get("src", "").startswith("/assets/tokens.js?v=") for of in scripts)
    shown = got(client, "row", ("step", "verified"), ("id", id_of("script"))).text
    assert TEXTS["script"] in shown
    nul, bidi = (got(client, "row", ("step", "verified"), ("id", id_of(name))).text for name in ("nul", "bidi"))
    assert "before\u2400behind \u241b[31mred\u2407" in nul
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(bidi)


def test_a_huge_text_is_cut_in_the_middle(client: TestClient):
    asked = [("step", "verified"), ("id", "huge#0")]
    first = client.get(f"row?{urlencode(asked)}").text
    assert len(first) < 40_000
    assert "start All work" in first
    assert "and no play.  finish" in first
    assert "characters left out" in first
    more = client.get(f"row?{urlencode([*asked, ('whole', '1')])}").text
    assert 400_000 < len(more) < 500_000


def scored(client: TestClient, *asked: tuple[str, str]) -> Found:
    """The page once it is there; it says that it is being worked on until then."""
    for _ in range(600):
        page = got(client, "row", *asked)
        if not any(of.get("http-equiv") == "refresh" for _, of in page.elements):
            return page
        assert "Looking at its tokens" in page.text
        time.sleep(0.3)
    raise AssertionError("the work does not end")


def tokens_of(page: Found) -> list[dict[str, str]]:
    return [of for tag, of in page.elements if tag == "span" and of.get("class", "").split()[:1] == ["token"]]


def test_a_pair_is_scored_by_two_models_and_its_tokens_are_coloured(client: TestClient, run: str):
    """By a process of its own, when it is asked for: log-probs, their change, weights, of which negative ones are red."""
    asked = [("step", "curated"), ("id", PLAIN)]
    assert not tokens_of(got(client, "row", *asked))
    elsewhere = client.get(f"row?{urlencode([*asked, ('score', 'sft')])}", headers={"sec-fetch-site": "cross-site"})
    assert "refresh" not in elsewhere.text, "another page's link starts no work"
    page = scored(client, *asked, ("score", "sft,redi"))
    group = {
        "prompt": [{"role": "user", "content": "What is plain?"}],
        "members": [
            {"turns": [{"role": "assistant", "content": text}], "finished": finished}
            for text, finished in zip(PAIRS[0][2:], (True, False), strict=True)
        ],
    }
    reader = Reader(run)
    first, second = (
        [
            value
            for member in reader.logps(name, current_manifest(run, f"checkpoints/{name}").facts["export"], group)
            for value in member
        ]
        for name in ("sft", "redi")
    )
    tokens = tokens_of(page)
    assert len(tokens) == len(first)
    for token, a, b in zip(tokens, first, second, strict=True):
        assert f"sft log-prob {a:.3f}" in token["title"]
        assert f"change {b - a:+.3f}" in token["title"]
        colour = token["class"].removeprefix("token").strip()
        assert colour.rstrip("12345678") in ({"up", ""} if b > a else {"down", ""})
    assert len({token["class"] for token in tokens}) > 3
    weighed = tokens_of(scored(client, *asked, ("colour", "weight:redi")))
    assert {token["class"] for token in weighed} == {"token up8", "token down8"}
    assert weighed[0]["title"].endswith("redi weight +1")
    learnt = got(client, "rows", ("step", "redi")).links("row?")
    assert ["colour=weight%3Aredi" in link for link in learnt] == [True] * 4


def test_what_cannot_be_scored_says_why(client: TestClient):
    page = scored(client, ("step", "curated"), ("id", PAIRS[3][0]), ("score", "sft"))
    assert "characters, more than the 200,000 whose tokens are looked at here" in page.text
    assert "start All work" in page.text, "and the row is shown all the same"
    page = scored(client, ("step", "verified"), ("id", "plain#0"), ("colour", "column:likely"))
    assert "likely has 10 numbers for the" in page.text


def test_a_model_without_room_is_refused_with_what_to_do():
    with pytest.raises(
        TooLarge, match=r"huge takes about .* GiB in float32, and this machine has .* GiB free: do that"
    ):
        require_room("huge", "/nowhere", 10**13, "do that")
    require_room("small", "/nowhere", 1000, "do that")


def test_a_process_that_ends_says_why(run: str, monkeypatch: pytest.MonkeyPatch):
    jobs = TokenJobs()
    monkeypatch.setattr("sys.executable", "/bin/false")
    try:
        answer = jobs.ask(run, {}, "pairs", {"tokens": Wanted(None, "")})
        while answer.since is not None:
            time.sleep(0.02)
            answer = jobs.ask(run, {}, "pairs", {"tokens": Wanted(None, "")})
        assert "has ended (1): it said nothing; was there memory for it?" in answer.series["tokens"]["error"]
    finally:
        jobs.close()


def test_work_that_takes_too_long_is_ended(run: str, tmp_path: Path):
    """And what comes next is worked on by a new process; what waits is bounded."""
    jobs = TokenJobs(seconds=0.01)
    try:
        row = {"pair_id": PLAIN, "problem_id": "plain", "prompt": [], "chosen": [], "rejected": []}
        jobs.ask(run, row, "pairs", {"tokens": Wanted(None, "")})
        for _ in range(400):
            answer = jobs.ask(run, row, "pairs", {"tokens": Wanted(None, "")})
            if answer.since is None:
                break
            time.sleep(0.05)
        assert "this took longer than 0 s" in answer.series["tokens"]["error"]
        assert "step `logps`" in answer.series["tokens"]["error"]
    finally:
        jobs.close()
