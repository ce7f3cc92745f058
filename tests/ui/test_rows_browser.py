"""Rows in a real browser: a wrong trace is found by its text, a pair is seen in colours, and no text does anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from rows_run import HARM, PAIRS, TEXTS, id_of
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

WAIT_SECONDS = 120
WIDE, PHONE = (1200, 900), (390, 800)


@pytest.fixture(scope="module")
def url(served: Callable[[Any], str], rows_app: tuple[str, Any]) -> str:
    app = rows_app[1]
    return f"{served(app)}{app.state.places.all()[0].path}"


def sized(browser: Any, size: tuple[int, int], scheme: str = "light") -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def one(browser: Any, css: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, css)


def link(browser: Any, text: str) -> Any:
    return browser.find_element(By.LINK_TEXT, text)


def legend(browser: Any) -> str:
    """Once the numbers of the tokens are there."""
    WebDriverWait(browser, WAIT_SECONDS).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".legend"))
    return one(browser, ".legend").text


def colour(token: Any) -> list[float]:
    return [float(part) for part in re.findall(r"[0-9.]+", token.value_of_css_property("background-color"))]


def test_a_wrong_trace_is_found_by_its_text(url: str, browser: Any):
    sized(browser, WIDE)
    browser.get(f"{url}/rows")
    link(browser, "verified").click()
    one(browser, "input[name=text]").send_keys("STEP 2: SO")
    one(browser, "input[name=verdict][value=wrong]").click()
    one(browser, "form.filter button").click()
    assert one(browser, "p.count").text.startswith("1 row")
    assert one(browser, ".excerpt mark").text == "Step 2: so"
    link(browser, "plain#0").click()
    assert one(browser, "h1").text == "wrong plain#0"
    marked = one(browser, ".part .located")
    assert marked.text.endswith("Step 2: so 5.")
    assert marked.get_attribute("title") == "first wrong 0.1"
    assert "column scored" in one(browser, "dl").text


def test_a_pair_is_seen_in_colours(url: str, browser: Any):
    """Side by side: what a training weighs (negative red), and how far it has moved each token, read by mouse and keyboard."""
    sized(browser, WIDE)
    browser.get(f"{url}/rows?step=curated")
    link(browser, PAIRS[0][0]).click()
    link(browser, "loss weight, redi").click()
    assert legend(browser).startswith("-1")
    chosen, rejected = browser.find_elements(By.CSS_SELECTOR, ".part")
    assert (chosen.location["y"], "plus" in chosen.get_attribute("class")) == (rejected.location["y"], True)
    up, down = (colour(part.find_element(By.CSS_SELECTOR, ".token")) for part in (chosen, rejected))
    assert up[2] > up[0] + 50
    assert down[0] > down[2] + 50
    for at, model in enumerate(("sft", "redi")):
        Select(browser.find_elements(By.CSS_SELECTOR, "select[name=score]")[at]).select_by_value(model)
    one(browser, "form.filter button").click()
    link(browser, "change, sft to redi")
    assert "with redi than with sft" in legend(browser)
    chosen, _ = browser.find_elements(By.CSS_SELECTOR, ".part")
    tokens = chosen.find_elements(By.CSS_SELECTOR, ".token")
    assert len({tuple(colour(token)) for token in tokens}) > 3
    ActionChains(browser).move_to_element(tokens[2]).perform()
    assert one(browser, "output").text.count("log-prob") == 2
    text = chosen.find_element(By.CSS_SELECTOR, ".turn.own pre")
    text.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert "token 2 of" in one(browser, "output").text
    browser.execute_script("getSelection().selectAllChildren(arguments[0])", text)
    assert browser.execute_script("return getSelection().toString()") == f"{PAIRS[0][2]}\u23ce"
    link(browser, "log-prob, redi").click()
    assert "the stronger, the less likely" in legend(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_that_mean_harm_do_nothing(url: str, browser: Any, scheme: str):
    """Nothing of them runs, is loaded, or is drawn as markup; texts stay in their boxes, at a phone's width too."""
    sized(browser, PHONE, scheme)

    def is_harmless() -> None:
        assert browser.title != "owned"
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.find_elements(By.CSS_SELECTOR, "img, style, iframe, body script") == []

    for name, text in TEXTS.items():
        browser.get(f"{url}/rows?step=verified&problem={name}")
        is_harmless()
        one(browser, "ol.rows a").click()
        is_harmless()
        shown = one(browser, ".part pre")
        assert shown.value_of_css_property("unicode-bidi") == "plaintext"
        if name in ("script", "attribute", "template", "arabic", "plain"):
            assert browser.execute_script("return arguments[0].textContent", shown) == text
    browser.get(f"{url}/rows?step=curated&table=rejects")
    one(browser, "ol.rows a").click()
    assert HARM in one(browser, "main").text
    is_harmless()
    browser.get(f"{url}/rows?step=verified")
    is_harmless()
    assert link(browser, id_of("script")).is_displayed()
