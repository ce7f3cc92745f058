"""SIGKILL of the driver in an import, in a column, in groups and in their tokens, each in the middle; and once more: the same
rows, and nothing done twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from curation_runs import solved, write_shards
from processes import ROOT, kill_when, start
from recovery import recovering

from redi_ray.config.data import FileSet
from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import LengthScorer
from redi_ray.data.groups.make import make_groups, plan
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.score.score import score_samples
from redi_ray.data.score.scorer import Asked
from redi_ray.data.sources.import_sets import import_set
from redi_ray.stages import parts
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.joining import join_parts
from redi_ray.stages.remote import all_remotely
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.store import parquet, storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]
PLAIN = PromptSettings(prefix="")
SHARDS = [solved([f"How many eggs of {n * 20 + k} are in basket {k}?" for k in range(20)], f"{n}-") for n in range(16)]
SET_ROWS = 9000
"""More than four shards of an imported set."""


def work(root: Path, tokenizer: str) -> Iterator[str]:
    """All of it, one stage after another; says what is done."""
    set_of = ImportSettings(source=FileSet(paths=[f"{root}/set.csv"]))
    yield str(import_set(set_of, PLAIN, f"{root}/set", "steps.x").tables)
    verified = write_shards(root, SHARDS)
    yield str(score_samples(f"{root}/in", f"{root}/length", LengthScorer(name="length"), Asked(PLAIN))[0].samples)
    grouping = Grouping(
        **plan(verified),
        out_uri=f"{root}/out",
        tokenizer=tokenizer,
        prompt=PLAIN,
        settings=GroupSettings(scores={"length": -0.01}),
        max_prompt_tokens=1000,
        max_response_tokens=1000,
        scores=(("length", tuple(f"{root}/length/part-{n}.parquet" for n in range(len(SHARDS)))),),
    )
    grouping = replace(grouping, borders=tuple(range(len(SHARDS) + 1)), partitions=2)
    yield str(make_groups(grouping, 2))
    how = Tokenising("groups", "groups", f"{root}/tokens", tokenizer, PLAIN, Weighting(False, False))
    parts.PART_BYTES = 1
    cut = parts.plan_parts(storage.list_files(f"{root}/out/groups"))
    yield str(sum(told["in"] for told in all_remotely(tokenise_part, [(part, how) for part in cut], at_once=2)))
    yield str(join_parts(cut, how)["counts"])


def found(root: Path) -> dict[str, object]:
    """Rows of every table, and the arrays byte for byte."""
    tables = {
        name: [row for table in parquet.read_tables(storage.list_files(f"{root}/{name}")) for row in table.to_pylist()]
        for name in ("set/pairs", "set/rejects", "length", "out/groups", "out/dropped")
    }
    return tables | {path.name: path.read_bytes() for path in (root / "tokens" / "arrays").iterdir()}


def write_set(root: Path) -> Path:
    root.mkdir()
    rows = [f"q{n},a{n},{'a' if n % 9 == 0 else 'b'}{n}" for n in range(SET_ROWS)]
    (root / "set.csv").write_text("\n".join(["prompt,chosen,rejected", *rows]))
    return root


def test_a_killed_driver(tmp_path: Path, bpe_tokenizer: str):
    torn, calm = write_set(tmp_path / "torn"), write_set(tmp_path / "calm")
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tests" / "data"), str(ROOT)])}

    def is_there(pattern: str, count: int) -> Callable[[], bool]:
        return lambda: len(list(torn.glob(pattern))) >= count

    moments = {
        "set/pairs/part-*.parquet": (2, 4),
        "length/*.parquet": (4, 16),
        "out/work/written/*.json": (4, 16),
        "tokens/parts/*/done.json": (3, 16),
    }
    for pattern, (some, whole) in moments.items():
        address = ray.get_runtime_context().gcs_address  # one Ray for all of them, which outlives its drivers
        process = start("python", __file__, str(torn), bpe_tokenizer, address, environment=environment)
        kill_when(process, is_there(pattern, some))
        assert len(list(torn.glob(pattern))) < whole, f"{pattern}: killed behind its end"
    done = [*torn.glob("length/*.parquet"), *torn.glob("out/work/*/*.json"), *torn.glob("tokens/parts/*/done.json")]
    before = {path: path.stat().st_mtime_ns for path in done}
    with recovering("the kill of groups and tokens"):
        told = list(work(torn, bpe_tokenizer))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert told == list(work(calm, bpe_tokenizer))
    assert found(torn) == found(calm)


if __name__ == "__main__":
    ray.init(address=sys.argv[3], log_to_driver=False)
    for line in work(Path(sys.argv[1]), sys.argv[2]):
        print(line, flush=True)
