"""A search that takes longer than a page may: every answer is quick, the same question goes on, and a browser asks it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from rows_run import write_many

from redi_ray.report.looked import looked

FILES = 12


@pytest.fixture
def app(pages_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of a dozen files, of which a page looks into one."""
    looked.cache_clear()
    monkeypatch.setattr("redi_ray.ui.rows.SECONDS", 0)
    return pages_of(write_many(str(tmp_path / "run"), FILES))


def test_the_same_question_goes_on(app: Any):
    """What was found stays on the page, and in the end all was looked through."""
    client = TestClient(app, base_url=f"http://localhost{app.state.places.all()[0].path}")
    for text, answers in (("answer is 3.", [3]), ("nobody", []), ("answer is 1", [1, 10, 11])):
        pages = [client.get("rows", params={"step": "verified", "text": text}).text]
        while "data-more" in pages[-1]:
            pages.append(client.get("rows", params={"step": "verified", "text": text}).text)
            assert len(pages) <= FILES
        seen = [[number for number in range(FILES) if f">p{number}#0<" in page] for page in pages]
        assert seen[-1] == answers
        assert all(set(before) <= set(after) for before, after in pairwise(seen))
        assert len(pages) > 2
        assert "of the files looked through" not in pages[-1]


def test_a_row_by_its_id_alone(app: Any):
    client = TestClient(app, base_url=f"http://localhost{app.state.places.all()[0].path}")
    answers = [client.get("row", params={"step": "verified", "id": "p9#0"})]
    while answers[-1].status_code == 202 and len(answers) <= FILES:
        assert 'http-equiv="refresh"' in answers[-1].text
        answers.append(client.get("row", params={"step": "verified", "id": "p9#0"}))
    assert (answers[-1].status_code, answers[0].status_code) == (200, 202)
    assert "The answer is 9." in answers[-1].text
    while (gone := client.get("row", params={"step": "verified", "id": "nobody"})).status_code == 202:
        pass
    assert gone.status_code == 400
    assert "no row" in gone.text


def test_a_browser_looks_on_by_itself(app: Any, served: Callable[[Any], str], browser: Any):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    url = f"{served(app)}{app.state.places.all()[0].path}"
    browser.get(f"{url}/rows?step=verified&text=answer+is+11")
    # the page replaces its parts
    wait = WebDriverWait(browser, 60, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda driver: driver.find_elements(By.LINK_TEXT, "p11#0"))
    wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, "p.count").text.startswith("1 row"))
    assert browser.find_elements(By.CSS_SELECTOR, "progress") == []
    browser.get(f"{url}/row?step=verified&id=p10%230")
    wait.until(lambda driver: "The answer is 10." in driver.find_element(By.TAG_NAME, "main").text)
