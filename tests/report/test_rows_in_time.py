"""Pages of rows that have little time: they say how far they have looked, and the next one goes on from there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from row_shards import make_run, numbers, table_of, walk

from redi_ray.report import scan
from redi_ray.report.filters import TraceFilter
from redi_ray.report.row_pages import page
from redi_ray.report.row_places import Place


@pytest.mark.parametrize("backwards", [False, True])
def test_when_time_is_up_it_says_how_far_it_has_looked(tmp_path: Path, backwards: bool):
    """No row is lost where looking goes on, each page gets further, and the count is whole in the end."""
    run, wanted = str(tmp_path / "run"), TraceFilter(text="boxed{2")
    make_run(run)
    found = page(table_of(run), wanted, seconds=0, before=Place("~", 0) if backwards else None)
    assert (found.whole, found.further is None) == (False, False)
    assert found.looked < 1
    seen, pages = numbers(found), 1
    while found.further is not None:
        way = {"before" if backwards else "after": found.further}
        found = page(table_of(run), wanted, seconds=0, **way)
        seen = [*numbers(found), *seen] if backwards else [*seen, *numbers(found)]
        pages += 1
    assert seen == [2, *range(20, 30)]
    assert 4 < pages < 25
    assert page(table_of(run), wanted, seconds=60).whole


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_the_same_question_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool, in_pieces: bool
):
    """Within a file, too; what was found meanwhile is there, and the count that comes is right."""
    if in_pieces:
        monkeypatch.setattr("redi_ray.report.row_pages.UNIT_BYTES", 1)
        monkeypatch.setattr(scan, "UNIT_BYTES", 1)
    make_run(str(tmp_path))
    before, let_through = Place("~", 0) if backwards else None, [2, *range(20, 30)]
    for limit in (50, 3, 1):
        pages = [page(table_of(str(tmp_path)), TraceFilter(text="boxed{2"), limit=limit, seconds=0, before=before)]
        while pages[-1].further is not None:
            pages.append(
                page(table_of(str(tmp_path)), TraceFilter(text="boxed{2"), limit=limit, seconds=0, before=before)
            )
            assert len(pages) < 25
        assert numbers(pages[-1]) == (let_through[-limit:] if backwards else let_through[:limit])
        assert all(row.excerpt for row in pages[-1].rows)
        assert (pages[-1].count, pages[-1].whole) == (11, True) or limit < 50
    walked = walk(str(tmp_path), TraceFilter(text="boxed{2"), limit=2, seconds=0)
    assert [number for found in walked for number in numbers(found)] == let_through


def test_what_waited_until_time_was_up_is_left_to_the_next_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On S3 sixteen files that had been asked for would otherwise each be opened."""
    make_run(str(tmp_path))
    begun = []

    def slowly(unit: scan.Unit, *settings: Any, **named: Any) -> scan.Found:
        begun.append(unit.key)
        time.sleep(0.15)
        return scan.look(unit, *settings, **named)

    monkeypatch.setattr("redi_ray.report.row_pages.look", slowly)
    monkeypatch.setattr("redi_ray.report.side_by_side.THREADS", 1)
    wanted, found = TraceFilter(text="boxed{2"), []
    while not found or found[-1].further is not None:
        found.append(page(table_of(str(tmp_path)), wanted, seconds=0.05, after=found[-1].further if found else None))
        assert len(begun) == len(found)
    assert [number for one in found for number in numbers(one)] == [2, *range(20, 30)]
