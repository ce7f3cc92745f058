"""Problems that differ, as a selection: which stay under any order and sharding, what is told of them, and what comes after a
pass of embeddings that was cut off."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from curation_runs import Rows, solved, trace, write_shards
from processes import ROOT, kill_when, start
from pydantic import ValidationError
from recovery import recovering

from redi_ray.config.selection import DiverseProblems
from redi_ray.config.steps import SelectStep
from redi_ray.data.curate import spreading
from redi_ray.data.curate.curate import embedding_workers
from redi_ray.data.curate.problems import by_chance, number_of, select
from redi_ray.data.curate.spreading import Measured, Spreading, Worker, plan, run_passes, selected_of
from redi_ray.store import parquet, storage

GOODS = ("eggs", "lamps", "ropes", "coins", "bricks", "tents", "boats", "flutes")
KINDS = [f"A shop in the old harbour sold {n + 3} {thing} on {thing}day. How many?" for n, thing in enumerate(GOODS)]
CROWDED = [f"{KINDS[kind]} Variant {n}" for kind in range(8) for n in range(40 if kind < 2 else 2)]
"""Two kinds of problems have nearly all of them."""
MANY = [
    solved([f"Of {n * 100 + k} {GOODS[k % 8]} every {n + 2}nd is sold. How many?" for k in range(60)], f"{n}-")
    for n in range(4)
]


def work_of(folder: Path, shards: list[Rows], least: int = 100, **wanted: Any) -> Spreading:
    """The plan, with a group for every shard."""
    settings = DiverseProblems.model_validate(wanted)
    work = plan(write_shards(folder, shards), f"{folder}/out", settings, settings.problems or 0, False)
    return replace(work, borders=tuple(range(len(shards) + 1)), least=least)


def run_here(work: Spreading) -> Measured:
    """The passes in this process."""
    worker = Worker(work)

    def run(name: str, tasks: list[int]) -> Iterator[Counter[str]]:
        for task in tasks:
            yield worker.work(name, task)

    return run_passes(work, run)


def chosen(work: Spreading) -> set[str]:
    run_here(work)
    return selected_of(work.selected)


@pytest.mark.parametrize("by", ["farthest", "clusters"])
def test_no_order_and_no_sharding_changes_which_stay(by: str, tmp_path: Path):
    """Nor how the problems are cut into shards, nor the measures, to the last digit."""
    rows = solved(CROWDED)
    shards = {"one": [rows], "many": [rows[n::7] for n in reversed(range(7))], "turned": [rows[::-1]]}
    works = {name: work_of(tmp_path / name, parts, problems=20, by=by) for name, parts in shards.items()}
    told = [run_here(work) for work in works.values()]
    assert told[0] == told[1] == told[2]
    found = [parquet_ids(work) for work in works.values()]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 20


def parquet_ids(work: Spreading) -> list[str]:
    """What stays, in the order in which it was taken."""
    return [name for batch in parquet.read_batches(work.selected) for name in batch["problem_id"].to_pylist()]


@pytest.mark.parametrize("by", ["farthest", "clusters"])
def test_as_many_as_there_are_is_all_of_them(by: str, tmp_path: Path):
    rows = solved(KINDS)
    for number in (8, 9):
        assert chosen(work_of(tmp_path / str(number), [rows], problems=number, by=by)) == {f"p{n}" for n in range(8)}


def test_copies_come_last(tmp_path: Path):
    """Three copies of each kind: whatever their keys, each kind is there once before any is there twice."""
    rows = solved([*KINDS, *KINDS, *KINDS])
    for seed in (0, 1, 2):
        found = chosen(work_of(tmp_path / str(seed), [rows], problems=8, by="farthest", seed=seed))
        assert sorted(int(name[1:]) % 8 for name in found) == list(range(8))


def test_what_is_told_beside_chance(tmp_path: Path):
    """The control is what a step `random` of the same seed takes; the selected ones have more kinds and are farther apart."""
    works = {
        by: work_of(tmp_path / by, [solved(CROWDED)], problems=8, by=by, seed=3) for by in ("farthest", "clusters")
    }
    told = {by: run_here(work) for by, work in works.items()}
    by_hand = {name for name, why in by_chance([f"p{n}" for n in range(len(CROWDED))], 8, 3).items() if not why}
    ids = [
        name
        for uri in works["farthest"].work_files("embed", 1)
        for name in next(parquet.read_tables([uri]))["problem_id"].to_pylist()
    ]
    assert set(ids[:8]) == by_hand
    for by, work in works.items():
        kinds = {CROWDED[int(name[1:])].split(" ")[8] for name in selected_of(work.selected)}
        assert len(kinds) >= 6, kinds
        assert told[by]["selected"]["mean_nearest"] > told[by]["random"]["mean_nearest"]
        assert set(told[by]["selected"]) == {"mean_nearest", "mean_distance", "coverage"}


def test_traces_of_the_others_go_with_a_reason(tmp_path: Path):
    """All traces of a problem stay, in their shards; the sum of all is what came in."""
    shards = [solved(KINDS[:4]), [*solved(KINDS[4:], "q"), trace("p0", 2, "wrong", problem=KINDS[0])]]
    work = work_of(tmp_path, shards, problems=3)
    run_here(work)
    kept = select(list(work.verified), list(work.verified), [], [], f"{tmp_path}/in", work.out_uri, work)
    assert kept.problems == 3
    assert kept.left_out == {"not_diverse": 17 - kept.rows}
    rows = [
        row
        for uri in storage.list_files(f"{tmp_path}/out", ".parquet")
        if "/work/" not in uri
        for row in next(parquet.read_tables([uri])).to_pylist()
    ]
    assert {row["problem_id"] for row in rows} == selected_of(work.selected)
    assert len(rows) == kept.rows


def test_what_was_embedded_is_not_embedded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It ends in the third of six parts; what goes on takes the first two as they are, and comes to the same bytes."""
    wanted = {"problems": 20, "by": "farthest", "least": 40}
    calm = work_of(tmp_path / "calm", MANY, **wanted)
    told, real = run_here(calm), spreading.embedded
    torn, done = work_of(tmp_path / "torn", MANY, **wanted), list[int]()

    def breaks(*arguments: Any) -> Any:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(spreading, "embedded", breaks)
    with pytest.raises(KeyboardInterrupt):
        run_here(torn)
    assert run_here(torn) == told
    assert len(done) == 3 + 4
    same_files(calm, torn)


def same_files(one: Spreading, other: Spreading) -> None:
    """Byte for byte, vectors and selection."""
    for name in ("selected.parquet", "measures.json", *(f"embed/part-{n:05d}.parquet" for n in range(6))):
        assert storage.read_bytes(one.work(name)) == storage.read_bytes(other.work(name)), name


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_driver_killed_while_it_embeds(tmp_path: Path):
    """SIGKILL when some parts have vectors: the next driver takes those as they are, and the bytes are those of a calm run."""
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "data"), str(ROOT)])}
    process = start("python", __file__, str(tmp_path / "torn"), environment=environment)
    kill_when(process, lambda: len(list(tmp_path.glob("torn/out/work/embed/*.json"))) > 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "torn" / "out" / "work").rglob("*.json")}
    assert sum(path.parent.name == "embed" for path in before) < 6
    torn = work_of(tmp_path / "torn", MANY, least=40, problems=20, by="farthest")
    with recovering("the kill of a pass of embeddings"), embedding_workers(torn, torn.embedder, 2, kind=Worker) as run:
        told = run_passes(torn, run)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    calm = work_of(tmp_path / "calm", MANY, least=40, problems=20, by="farthest")
    assert run_here(calm) == told
    same_files(calm, torn)


def test_a_part_holds_no_more_for_more_shards(tmp_path: Path):
    """A million problems are 64 parts, of which an actor holds one."""
    work = work_of(tmp_path, [solved(KINDS)], least=4096, problems=1)
    assert work.part_size(1000) == 4096
    assert -(-1_000_000 // work.part_size(1_000_000)) == 64


def test_the_number_of_another_step(tmp_path: Path):
    shards = write_shards(tmp_path, [solved(KINDS[:5])])
    assert number_of(DiverseProblems(like="other"), shards) == 5
    assert number_of(DiverseProblems(problems=2), []) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"diverse": {}}, "set either `like`"),
        ({"diverse": {"problems": 3, "like": "sft"}}, "set either `like`"),
        ({"diverse": {"problems": 3}, "random": {"problems": 3}}, "a second rule is a second step"),
        ({"diverse": {"problems": 3}, "by": "verified"}, "need no traces to count"),
        ({"diverse": {"problems": 3, "by": "random"}}, "farthest"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        SelectStep.model_validate({"do": "select", "of": "verified", **settings})


class SlowWorker(Worker):
    """Takes a while for each part, so that there is a middle in which to be killed."""

    def embed(self, part: int) -> Counter[str]:
        time.sleep(0.5)
        return super().embed(part)


if __name__ == "__main__":
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    job = work_of(Path(sys.argv[1]), MANY, least=40, problems=20, by="farthest")
    with embedding_workers(job, job.embedder, 1, kind=SlowWorker) as run_tasks:
        run_passes(job, run_tasks)
