"""The demo, in small, with everything it keeps on S3; its driver is killed twice, the same command ends it."""

from __future__ import annotations

import json
import time

import pytest
import tiny_demo
from processes import kill_when, run, start
from recovery import recovering

from redi_ray.store import storage

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

TINY = (*tiny_demo.TINY, "sft.train.checkpoint_every=1")


def test_killed_in_generation_and_training_it_ends_as_undisturbed(bucket: str):
    calm, torn = f"{bucket}/calm", f"{bucket}/torn"
    run("run", "configs/demo.yaml", *TINY, f"storage.root={calm}")
    command = ("run", "configs/demo.yaml", *TINY, f"storage.root={torn}")

    def written(folder: str, ending: str) -> bool:
        time.sleep(0.2)
        return any(uri.endswith(ending) for uri in storage.list_files(f"{torn}/demo/{folder}"))

    kill_when(start(*command), lambda: written("traces", ".parquet"))
    kill_when(start(*command), lambda: written("checkpoints/sft", "files.json"))
    with recovering("the second kill"):
        run(*command)

    reports = [json.loads(storage.read_bytes(f"{root}/demo/report/report.json")) for root in (calm, torn)]
    assert [arm["name"] for arm in reports[0]["arms"]] == ["base", "sft", "alpha0", "redi"]
    scores = [[(arm["name"], arm["pass@1"], arm["sem"]) for arm in report["arms"]] for report in reports]
    assert scores[0] == scores[1]
    assert reports[0]["funnel"] == reports[1]["funnel"]
    weights = [
        {uri.split("/demo/checkpoints/")[1]: storage.read_bytes(uri) for uri in storage.list_files(f"{root}/demo")
         if uri.endswith("export/model.safetensors")}
        for root in (calm, torn)
    ]  # fmt: skip
    assert len(weights[0]) >= 3
    assert weights[0] == weights[1]
