"""The page of traces: bounded, the same at every build, some of every verdict, and hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from redi_ray.report.page import build_report
from redi_ray.report.traces import PER_VERDICT
from redi_ray.schemas import VERIFIED_TRACE, stored_votes
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes

HOSTILE = '</pre></details><script>alert(1)</script><img src=x onerror="alert(2)">" onclick="alert(3) & ${x} \ue000'


def trace(index: int, verdict: str, completion: str) -> dict:
    return {
        "problem_id": f"p{index}",
        "problem": f"problem {index} {HOSTILE}",
        "answer": "1",
        "source": f'source {index % 3} "><b>',
        "trace_id": f"p{index}#0{HOSTILE}",
        "sample_index": 0,
        "completion": completion,
        "verdict": verdict,
        "verdict_by": stored_votes({"math_verify": verdict}),
        "extracted_answer": HOSTILE,
    }


def publish(run: str, verdicts: list[str], completion: str) -> Stage:
    stage = Stage(run, "verified", {"verdicts": len(verdicts)}, {})
    rows = [trace(index, verdict, completion) for index, verdict in enumerate(verdicts)]
    for start in range(0, len(rows), 100):
        table = pa.Table.from_pylist(rows[start : start + 100], schema=VERIFIED_TRACE)
        write_table(join(stage.uri, "verified", "round-000", f"part-{start:05d}.parquet"), table)
    counts = {verdict: verdicts.count(verdict) for verdict in set(verdicts)}
    stage.publish(counts={"in": len(rows), "out": len(rows)}, facts={"verdicts": counts})
    return stage


class Page(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("runs") / "demo")
    publish(run, ["correct"] * 180 + ["wrong"] * 110 + ["timeout"] * 3, HOSTILE)
    paths = build_report(run)
    assert paths.traces is not None
    first = Path(paths.traces).read_text()
    again = build_report(run)
    strip = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert strip.sub("", Path(str(again.traces)).read_text()) == strip.sub("", first)
    assert 'href="traces.html"' in Path(paths.html).read_text()
    return first


def test_some_of_every_verdict(html: str):
    shown = [attributes["data-verdict"] for attributes in Page(html).all("details")]
    assert {verdict: shown.count(verdict) for verdict in set(shown)} == {
        "correct": PER_VERDICT, "wrong": PER_VERDICT, "timeout": 3,
    }  # fmt: skip
    assert shown[:3] == ["correct", "wrong", "timeout"], "in turn, so that a full page has them all"
    assert f"{PER_VERDICT} of 180" in html


def test_hostile_text_stays_text(html: str):
    page = Page(html)
    assert not page.all("img")
    assert not page.all("b")
    assert len(page.all("script")) == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {attributes["data-source"] for attributes in page.all("details")} == {f'source {k} "><b>' for k in range(3)}
    assert html.count("<script>alert(1)") == 0


def test_only_the_pages_own_script_may_run(html: str):
    page = Page(html)
    policy = next(str(a["content"]) for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'")
    assert "http://" not in html
    assert "https://" not in html


def test_the_page_is_bounded_however_much_there_is(tmp_path: Path):
    """Long completions full of what escaping makes longer."""
    run = str(tmp_path / "long")
    publish(run, ["correct", "wrong", "no_answer", "error"] * 60, "<&\u4e2d" * 20_000)
    path = Path(str(build_report(run).traces))
    assert 500_000 < path.stat().st_size < 2_000_000
    shown = [attributes["data-verdict"] for attributes in Page(path.read_text()).all("details")]
    assert set(shown) == {"correct", "wrong", "no_answer", "error"}
    assert "characters left out" in path.read_text()


def test_damaged_traces_are_a_note_in_the_report(tmp_path: Path):
    run = str(tmp_path / "damaged")
    stage = publish(run, ["correct"], "x")
    write_bytes(join(stage.uri, "verified", "round-000", "part-00000.parquet"), b"PAR1")
    paths = build_report(run)
    assert paths.traces is None
    assert "verified traces cannot be read" in Path(paths.html).read_text()
