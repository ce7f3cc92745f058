"""Protects the pages in a real browser: numbers move by themselves, scripts of others do not run, nothing is asked elsewhere.

The fixture `browser` fails a test whose pages asked another host, broke their policy, or had an error.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_run import write_live_run
from made_run import CONFIG, write_run
from tiny_demo import TINY

from redi_ray.store.lock import run_lock
from redi_ray.store.storage import write_bytes

PATIENCE = 60.0
PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
TOO_WIDE = """const page = document.documentElement, wide = [], of = document.createRange();
    if (page.scrollWidth <= page.clientWidth) return wide;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        of.selectNodeContents(texts.currentNode);
        if (of.getBoundingClientRect().right > page.clientWidth) wide.push(texts.currentNode.textContent.slice(0, 80));
    }
    return [page.scrollWidth, ...wide];"""
"""The texts that make a page scroll sideways, and those that scroll within it; nothing where it does not."""
HOSTILE = "\u202e<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">" + "long" * 500


def until(found: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What `found` gives, once it gives something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not seen: {what}")


def text_of(browser: Any, selector: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))


def path_of(app: Any, number: int = 0) -> str:
    return str(app.state.places.all()[number].path)


def test_a_training_moves_while_it_is_looked_at(
    browser: Any, served: Callable[[Any], str], pages_of: Callable[..., Any], tmp_path: Path
):
    live = write_live_run(str(tmp_path))
    live.train(3)
    app = pages_of(str(tmp_path))
    with run_lock(live.uri):
        browser.get(served(app) + path_of(app))
        until(lambda: f"3 of {live.total} steps" in text_of(browser, "#live-work"), "three steps")
        newest = "return Number(document.querySelector('#curves').dataset.newest ?? -1)"
        until(lambda: browser.execute_script(newest) >= 2, "curves")
        browser.execute_script("document.body.dataset.same = 'page'")
        live.train(9)
        until(lambda: f"12 of {live.total} steps" in text_of(browser, "#live-work"), "twelve steps")
        until(lambda: browser.execute_script(newest) == 11, "the twelfth step in the curves")
        assert browser.execute_script("return document.body.dataset.same") == "page"  # it was not loaded again
        live.finish()
        until(lambda: "12 of" not in text_of(browser, "#live-work"), "the end of the training")
    until(lambda: "running" not in text_of(browser, "#live-status"), "the end of the driver")


def test_two_runs_are_compared_from_the_list(
    browser: Any, served: Callable[[Any], str], pages_of: Callable[..., Any], tmp_path: Path
):
    for name, alpha in (("first", 0.8), ("second", 0.5)):
        write_run(str(tmp_path / name), {"arithmetic": 30})
        config = CONFIG | {"redi": {"arms": {"redi": {"objective": {"name": "redi", "alpha": alpha}}}}}
        write_bytes(str(tmp_path / name / "config.yaml"), yaml.safe_dump(config).encode())
    browser.get(served(pages_of(str(tmp_path))))
    until(
        lambda: "finished" in text_of(browser, "#live-rows") or "run" in text_of(browser, "#live-rows td.statecell"),
        "states",
    )
    browser.execute_script("document.querySelectorAll('input[name=run]').forEach(box => box.click())")
    until(lambda: "compare 2" in text_of(browser, ".compare"), "two are ticked")
    time.sleep(1.5)  # the list is drawn anew meanwhile, and the ticks stay
    assert "compare 2" in text_of(browser, ".compare")
    browser.execute_script("document.querySelector('.compare button').click()")
    until(lambda: "What differs" in text_of(browser, "main"), "the comparison")
    (row,) = [
        line for line in text_of(browser, ".differs").splitlines() if line.startswith("redi.arms.redi.objective.alpha")
    ]
    assert sorted(row.split("\t")[1:]) == ["0.5", "0.8"]
    until(
        lambda: (
            browser.execute_script("return document.querySelectorAll('#curves .plot .scatterlayer path').length") > 2
        ),
        "curves",
    )
    assert "second: redi" in text_of(browser, "#curves .models")
    drawn = "return [...document.querySelectorAll('#curves figure')].filter(one => one.checkVisibility()).length"
    assert browser.execute_script(drawn) > 2
    browser.execute_script("document.querySelectorAll('#curves .legend input:checked').forEach(box => box.click())")
    assert browser.execute_script(drawn) == 0  # no empty axes


def test_hostile_names_do_nothing(
    browser: Any, served: Callable[[Any], str], pages_of: Callable[..., Any], tmp_path: Path
):
    run = tmp_path / "\u202e<img src=x onerror=alert(1)>"
    write_run(str(run), {"arithmetic": 20, HOSTILE[:2000]: 20})
    config = CONFIG | {"unknown": {HOSTILE: HOSTILE}}
    write_bytes(str(run / "config.yaml"), yaml.safe_dump(config).encode())
    app = pages_of(str(tmp_path))
    where = served(app)
    for path in ("/", path_of(app), f"/compare?run={path_of(app).removeprefix('/run/')}"):
        browser.get(where + path)
        until(lambda: "eing read" not in text_of(browser, "main"), "the page")
        time.sleep(1)
        assert "taken" not in browser.title
        assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
        assert "<img src=x onerror=alert(1)>" in text_of(browser, "body")


@pytest.mark.parametrize("page", ["list", "run", "compare"])
def test_a_phone_does_not_scroll_sideways(
    browser: Any, served: Callable[[Any], str], pages_of: Callable[..., Any], tmp_path: Path, page: str
):
    for name in ("a" * 120, "second"):
        write_run(str(tmp_path / name), {"arithmetic": 20})
    app = pages_of(str(tmp_path))
    ids = "&run=".join(place.id for place in app.state.places.all())
    path = {"list": "/", "run": path_of(app), "compare": f"/compare?run={ids}"}[page]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.get(served(app) + path)
        assert browser.execute_script(TOO_WIDE) == []  # while the run is being read
        until(lambda: "eing read" not in text_of(browser, "main"), "the page")
        if page != "list":
            until(
                lambda: browser.execute_script("return document.querySelectorAll('#curves .plot svg').length"), "curves"
            )
        assert browser.execute_script(TOO_WIDE) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_a_real_training_moves_while_it_is_looked_at(
    browser: Any, served: Callable[[Any], str], pages_of: Callable[..., Any], tmp_path: Path
):
    """`redi-ray train` of the demo in small, in a process of its own, from nothing to a trained base model."""
    changes = [*TINY, "model.init.train.epochs=10", f"storage.root={tmp_path}", "name=real"]  # steps for half a minute
    command = [sys.executable, "-m", "redi_ray.cli", "train", "configs/demo.yaml", *changes, "--arm", "base"]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        app = pages_of(str(tmp_path))
        until(lambda: app.state.places.all() or driver.poll() is not None, "the run", 300)
        browser.get(served(app) + path_of(app))
        seen = set()

        def steps() -> bool:
            found = text_of(browser, "#live-work").partition("steps")[0].split()
            seen.update(word for word in found[-3:-2] if word.isdigit())
            return len(seen) >= 3 or driver.poll() is not None

        until(steps, "steps", 400)
        assert len(seen) >= 3, (seen, (tmp_path / "log").read_text()[-2000:])
        assert driver.wait(400) == 0
        until(lambda: "base" in text_of(browser, "#live-trainings"), "the training in the table")
        until(lambda: "done" in text_of(browser, "#live-trainings"), "its end")
    finally:
        driver.kill()
        driver.wait()
