"""Rows in a real browser: a wrong trace is found by its text, a pair is seen in colours, and no text does anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rows_app import rows_app
from rows_run import HARM, PAIRS, TEXTS, id_of, write_rows_run

COLOUR = "of => getComputedStyle(of).backgroundColor.match(/[0-9.]+/g).map(Number)"
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def url(served: Callable[[Any], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rows_app(write_rows_run(str(tmp_path_factory.mktemp("rows") / "run"))) as app:
        yield f"{served(app)}/runs/run"


def test_a_wrong_trace_is_found_by_its_text(url: str, opened: Callable[..., Any]):
    page = opened(f"{url}/rows")
    page.get_by_role("link", name="verified", exact=True).click()
    page.get_by_label("text").fill("STEP 2: SO")
    page.get_by_label("wrong", exact=True).check()
    page.get_by_role("button", name="Filter").click()
    assert page.get_by_role("status").inner_text().startswith("1 row")
    assert page.locator(".excerpt mark").inner_text() == "Step 2: so"
    page.get_by_role("link", name="plain#0").click()
    assert page.locator("h1").inner_text() == "wrong plain#0"
    marked = page.locator(".part .located")
    assert marked.inner_text().endswith("Step 2: so 5.")
    assert marked.get_attribute("title") == "first wrong 0.1"
    assert "scored" in page.locator("dl").first.inner_text()


def test_a_pair_is_seen_in_colours(url: str, opened: Callable[..., Any]):
    """Side by side: what a training weighs (negative red), and how far it has moved each token, read by mouse and keyboard."""
    page = opened(f"{url}/rows?step=curated")
    page.get_by_role("link", name=PAIRS[0][0]).click()
    chosen, rejected = (
        page.locator(".part", has=page.get_by_role("heading", name=name)) for name in ("chosen", "rejected")
    )
    assert chosen.bounding_box()["y"] == rejected.bounding_box()["y"]
    page.get_by_role("link", name="loss weight, redi").click()
    page.locator(".legend").wait_for(timeout=WAIT_MS)
    up, down = (part.locator(".token").first.evaluate(COLOUR) for part in (chosen, rejected))
    assert up[2] > up[0] + 50
    assert down[0] > down[2] + 50
    page.get_by_label("log-probs of model").select_option("sft")
    page.get_by_label("compared with").select_option("redi")
    page.get_by_role("button", name="Score this row").click()
    page.get_by_role("link", name="change, sft to redi").wait_for()
    page.locator(".legend").wait_for(timeout=WAIT_MS)
    assert "sft" in page.locator(".legend").inner_text()
    tokens = chosen.locator(".token")
    colours = {tuple(of) for of in page.eval_on_selector_all(".token", f"all => all.map({COLOUR})")}
    assert len(colours) > 3
    tokens.nth(2).hover()
    assert page.locator("output").inner_text().count("log-prob") == 2
    chosen.locator(".turn.own pre").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert "token 2 of" in page.locator("output").inner_text()
    assert chosen.locator(".turn.own pre").inner_text() == f"{PAIRS[0][2]}\u23ce"
    page.get_by_role("link", name="log-prob, redi").click()
    assert page.locator(".legend").inner_text().strip().startswith("-")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_that_mean_harm_do_nothing(url: str, opened: Callable[..., Any], scheme: str):
    """Nothing of them runs, is loaded, or is drawn as markup; texts stay in their boxes, at a phone's width too."""
    page = opened(f"{url}/rows?step=verified", 390, 800, color_scheme=scheme)
    for name, text in TEXTS.items():
        page.goto(f"{url}/rows?step=verified&problem={name}")
        page.locator("ol.rows a").click()
        assert page.title() != "owned"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shown = page.locator(".part pre")
        assert shown.evaluate("of => getComputedStyle(of).unicodeBidi") == "plaintext"
        if name in ("script", "attribute", "template", "arabic", "plain"):
            assert shown.inner_text().removeprefix("\u25b6\u2002") == text
    page.goto(f"{url}/rows?step=curated&table=rejects")
    page.locator("ol.rows a").click()
    assert HARM in page.locator("body").inner_text()
    page.goto(f"{url}/rows?step=verified")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.get_by_text(id_of("script")).count() == 1
    assert page.evaluate("document.querySelectorAll('img, style, iframe').length") == 0
    assert page.title() != "owned"
