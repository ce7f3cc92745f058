"""Problems made of samples: filled in as written, under the sample's id, each with its own guide; what gives none is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from curation_runs import trace
from pydantic import ValidationError

from redi_ray.config.posed import PoseStep
from redi_ray.data.ask.posed import Posing, place_guides, pose, pose_shard
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import TRACE, VERIFIED_TRACE
from redi_ray.store import parquet

SAMPLES = [
    trace("p", 0, "correct", "<think>\nfirst\n</think>\nso 4"),
    trace("p", 1, "wrong", "<think>\nnever ends"),
    trace("q", 0, "wrong", "<think>\nother\n</think>\n<|im_end|> {5}"),
]
GUIDES = [
    ("p#0", 1, "a later one", "stop"),
    ("q#0", 0, "<think>hm</think>\nadd both", "stop"),
    ("p#0", 0, "<think>hm</think> count up", "stop"),
    ("p#1", 0, "count", "length"),
    ("z#0", 0, "of no sample", "stop"),
]


def posing(root: Path, **settings: Any) -> Posing:
    step = PoseStep(do="pose", of="x", **settings)
    parquet.write_table(f"{root}/in/a.parquet", pa.Table.from_pylist(SAMPLES, schema=VERIFIED_TRACE))
    character_tokenizer("0123").save_pretrained(root / "tokenizer")
    shards = []
    for number in range(2):
        rows = [
            {"problem_id": key, "trace_id": f"{key}#{n}", "sample_index": n, "problem": "?", "completion": text,
             "finish_reason": reason}
            for key, n, text, reason in GUIDES[number::2]
        ]  # fmt: skip
        shards.append(f"{root}/guides/{number}.parquet")
        parquet.write_table(shards[-1], pa.Table.from_pylist(rows, schema=TRACE))
    return Posing(f"{root}/in", f"{root}/out", step.settings, str(root / "tokenizer"), tuple(shards))


def posed(how: Posing) -> tuple[list[dict[str, Any]], dict[str, int]]:
    counts = pose_shard("a.parquet", how)
    (table,) = parquet.read_tables([f"{how.out_uri}/problems/a.parquet"])
    return table.to_pylist(), dict(counts)


def test_a_problem_of_each_sample(tmp_path: Path) -> None:
    rows, counts = posed(posing(tmp_path, prompt="{problem}|{thinking}|{response}|{{}}"))
    assert [row["problem_id"] for row in rows] == ["p#0", "q#0"]
    assert rows[0]["problem"] == f"{SAMPLES[0]['problem']}|first|so 4|{{}}"
    assert rows[1]["problem"].endswith("|other|< |im_end|> {5}|{}"), "no control token, and braces are text"
    assert [row["answer"] for row in rows] == [SAMPLES[0]["answer"], SAMPLES[2]["answer"]]
    assert counts == {"in": 3, "out": 2, "no_text": 1}, "it has no response"
    rows, counts = posed(posing(tmp_path / "bare", prompt="{problem} {thinking}"))
    assert counts == {"in": 3, "out": 3}
    assert rows[1]["problem"].endswith("never ends")
    assert "Leave out all" in posed(posing(tmp_path / "own"))[0][0]["problem"]


def test_each_sample_has_its_own_guide(tmp_path: Path) -> None:
    """The first of several, without its thought; wherever it lies."""
    how = posing(tmp_path, guides="templates", prompt="{problem}: {guide}")
    place_guides(how)
    rows, counts = posed(how)
    assert [row["problem"].partition(": ")[2] for row in rows] == ["count up", "add both"]
    assert counts == {"in": 3, "out": 2, "guide_cut_off": 1}
    assert posed(how)[1] == counts, "counted again, not made again"
    bare = posing(tmp_path / "none", guides="templates")
    bare = Posing(bare.samples, bare.out_uri, bare.settings, bare.tokenizer, ())
    place_guides(bare)
    assert posed(bare) == ([], {"in": 3, "out": 0, "no_guide": 3})


@pytest.mark.slow
def test_on_ray(ray_session: None, tmp_path: Path) -> None:
    how = posing(tmp_path, guides="templates")
    counts = pose(["a.parquet"], how)
    assert counts == pose(["a.parquet"], how) == {"in": 3, "out": 2, "guide_cut_off": 1}


def test_refused() -> None:
    for wrong in ({"prompt": "{guide}"}, {"prompt": "nothing"}, {"prompt": "{answer}"}, {"prompt": "{problem!r}"},
                  {"prompt": "{"}, {"guides": "g", "prompt": "{problem}"}):  # fmt: skip
        with pytest.raises(ValidationError):
            PoseStep(do="pose", of="x", **wrong)
