"""Protects the pages without a browser: what they say of a run on disk and on S3, live, damaged or hostile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from live_run import write_live_run
from made_run import CONFIG, HOSTILE, write_run

from redi_ray.store.ending import Ending, write_ending
from redi_ray.store.lock import run_lock
from redi_ray.store.storage import write_bytes
from redi_ray.ui.compare import config_differences


class Pages:
    """Answers of an app, asked for again while a run is being read."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.client = TestClient(self.app, base_url="http://localhost")

    def text(self, path: str) -> str:
        for _ in range(200):
            answer = self.client.get(path)
            assert answer.status_code in (200, 202), answer.text
            if answer.status_code == 200 and "eing read" not in answer.text:
                return answer.text
            time.sleep(0.3)
        raise AssertionError(f"{path} is being read for ever")

    def json(self, path: str) -> Any:
        for _ in range(200):
            found = self.client.get(path).json()
            if not found.get("waiting") and found.get("fragments", True):
                return found
            time.sleep(0.3)
        raise AssertionError(f"{path} is being read for ever")

    @property
    def run(self) -> str:
        """Path of the first run's page."""
        return self.app.state.places.all()[0].path


@pytest.fixture
def pages(root: str, pages_of: Callable[..., Any]) -> Pages:
    write_run(f"{root}/demo", {"arithmetic": 40, "gsm8k": 20})
    return Pages(pages_of(root))


def test_a_runs_pages(pages: Pages):
    """The list, the run, its curves, its plan, and what models wrote on none of them as markup."""
    listed = pages.text("/")
    assert ">demo<" in listed
    assert ">finished<" in listed
    shown = pages.text(pages.run)
    for word in ("arithmetic", "gsm8k", "symmetric", "stopped by guard", "against alpha0", "no_correct_trace"):
        assert word in shown
    assert "<b>too long</b>" not in shown  # a reason of the made-up run
    curves = pages.json(f"/curves.json?run={pages.run.removeprefix('/run/')}&smooth=0.5")
    assert {panel["key"] for panel in curves["panels"]} >= {"loss", "margin", "dev_accuracy"}
    loss = next(panel for panel in curves["panels"] if panel["key"] == "loss")
    assert len(loss["series"]) == 5
    assert all(len(line["x"]) == len(line["y"]) for line in loss["series"])
    again = pages.json(f"/curves.json?run={pages.run.removeprefix('/run/')}&smooth=0.5&have={curves['version']}")
    assert set(again) == {"version"}
    assert "Spent against plan" in pages.text(f"{pages.run}/spent")


def test_another_control_changes_the_differences(pages: Pages):
    assert "against redi, points" in pages.text(f"{pages.run}?against=redi")
    assert "against alpha0, points" in pages.text(f"{pages.run}?against=nobody")


def test_a_run_that_is_under_way(root: str, pages_of: Callable[..., Any]):
    """Its step, rate and time left; then finished; then, when its driver is gone, cut off."""
    live = write_live_run(root)
    live.train(5)
    pages = Pages(pages_of(root))
    with run_lock(live.uri):
        shown = pages.text(pages.run)
        assert f"5 of {live.total} steps" in shown
        assert ">running<" in shown
        assert re.search(r"<td>2(\.0)?</td><td>1,000</td>", shown)  # 500 tokens a step at 1,000 a second
        live.train(2)
        for _ in range(40):
            time.sleep(0.3)
            if f"7 of {live.total} steps" in (now := pages.json(f"{pages.run}/live.json")["fragments"]["work"]):
                break
        else:
            raise AssertionError(now)
        assert pages.json(f"/curves.json?run={pages.run.removeprefix('/run/')}")["live"]
    fresh = Pages(pages_of(root))
    assert ">cut off<" in fresh.text(fresh.run)


def test_how_the_last_command_ended_is_told(root: str, pages_of: Callable[..., Any]):
    live = write_live_run(root)
    live.train(1)
    error = ValueError("pack of 4 <tokens>: mend train.tokens_per_pack")
    error.add_note("at step redi")
    write_ending(live.uri, Ending.of(error, 2))
    pages = Pages(pages_of(root))
    shown = pages.text(pages.run)
    assert "pack of 4 &lt;tokens&gt;: mend train.tokens_per_pack" in shown
    assert "at step redi" in shown
    assert ">failed<" in shown


def test_damaged_and_hostile_runs_are_shown_as_text(tmp_path: Path, pages_of: Callable[..., Any]):
    """Markup in a folder's name, a config, notes and reasons; a damaged file; half a surrogate pair."""
    run = str(tmp_path / "<script>alert(1)</script>\u202e")
    write_run(run, {"arithmetic": 8})
    config = CONFIG | {"name": "x" * 20_000 + "<img src=x onerror=alert(1)>", "unknown": HOSTILE[:-20]}
    write_bytes(f"{run}/config.yaml", yaml.safe_dump(config).encode())
    write_bytes(f"{run}/eval/redi/manifest.json", b"{damaged <b>")
    pages = Pages(pages_of(str(tmp_path)))
    for path in ("/", pages.run, f"/compare?run={pages.run.removeprefix('/run/')}"):
        shown = pages.text(path)
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "<b>" not in shown.replace("<b>", "", shown.count("<b>") - shown.count("damaged <b>"))
    assert "cannot be read" in pages.text(pages.run)


ODD = {
    "list": {"verified/manifest.json": b"[]", "last_error.json": b"[]", "run.lock": b"\xff{"},
    "half": {"verified/manifest.json": b'{"counts":', "eval/redi/manifest.json": b'{"benchmarks": null}'},
    "config": {"config.yaml": b"- 1"},
}


def test_one_odd_run_takes_no_other_from_the_list(tmp_path: Path, pages_of: Callable[..., Any]):
    """Files that hold something else than they should: their run is shown as far as it can be, and so are the others."""
    for name, files in ODD.items():
        write_run(f"{tmp_path}/{name}", {"arithmetic": 8})
        for file, data in files.items():
            write_bytes(f"{tmp_path}/{name}/{file}", data)
    for number, place in enumerate(sorted(Path(tmp_path, "half").rglob("report.json"))):
        place.write_text(
            ("[]", '{"benchmarks": null, "samples": null}', '{"benchmarks": [{"name": "x"}]}', "x", "7")[number]
        )
    for place in Path(tmp_path, "list").rglob("metrics.jsonl"):
        place.write_text('{"step": 1e400, "loss": 1}\n')
    pages = Pages(pages_of(str(tmp_path)))
    listed = pages.text("/")
    for place in pages.app.state.places.all():
        assert place.path in listed
        assert pages.text(place.path)
    for name in ("list", "half"):
        (path,) = (place.path for place in pages.app.state.places.all() if place.name == name)
        answer = pages.client.get(f"{path}/rows?step=verified")
        assert answer.status_code == 502
        assert "copy it again, or delete it" in answer.text


def test_what_nobody_has_thought_of_is_a_page_with_the_policy(pages: Pages, monkeypatch: pytest.MonkeyPatch):
    """No bare `Internal Server Error`, no traceback; a run that cannot be read is a line of the list."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("<b>odd")

    path = pages.run
    client = TestClient(pages.app, base_url="http://localhost", raise_server_exceptions=False)
    monkeypatch.setattr("redi_ray.ui.runs.matches", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "ZeroDivisionError: &lt;b&gt;odd" in answer.text
    assert "Traceback" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    monkeypatch.undo()
    monkeypatch.setattr("redi_ray.ui.snapshots.read_record", broken)
    for _ in range(100):
        if "a file of this run is damaged (ZeroDivisionError" in pages.text("/"):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(pages.text("/"))
    assert client.get(path).status_code == 502


def test_what_differs_between_configs():
    first = {"name": "a", "sft": {"lr": 1, "more": {"x": [1, 2]}}, "arms": {"a.b": {"alpha": 1}}, "ks": [1, 2]}
    other = {
        "name": "b",
        "sft": {"lr": 2, "more": {"x": [1, 2]}},
        "arms": {"a.b": {"alpha": 0.5}},
        "only": True,
        "ks": [],
    }
    found = {one.path: one.values for one in config_differences([first, other])}
    assert found == {
        "sft.lr": ["1", "2"],
        "arms.a.b.alpha": ["1", "0.5"],
        "only": [None, "True"],
        "ks": ["[1, 2]", "[]"],
    }


def test_unknown_addresses_are_told(pages: Pages):
    for path in ("/nothing", "/run/unknown", "/run/unknown/live.json", "/assets/nothing.js"):
        answer = pages.client.get(path)
        assert answer.status_code == 404
        assert "there" in answer.text
    for path, told in (("/curves.json", "run: Field required"), (f"/?text={'x' * 201}", "text: ")):
        answer = pages.client.get(path)
        assert answer.status_code == 400
        assert told in answer.text
        assert "Cannot be shown" in answer.text
