"""Where rollouts put the first wrong step, against the exact one, and what that costs: `locate` in the built-in world.

    python benchmarks/locating.py [--quick] [--out DIR] [--samples 1 2 4 8] [--config configs/demo.yaml] [--set path=value ...]

The base model of the config samples traces of its problems and goes on from behind the steps of the wrong ones, by a linear and
by a binary search, with each number of continuations. Of every search: the share of samples whose first wrong step is the exact
one, the mean distance in steps, and the continuations a sample that were drawn. What is finished in DIR is not computed again.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from redi_ray.cluster.runtime import ray_connection, setup_logging
from redi_ray.config.load import load_config
from redi_ray.eval.steps import first_error_scores
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store import parquet
from redi_ray.store.manifests import Manifest
from redi_ray.text.steps import first_wrong

QUICK = [
    *("problems.source.num_problems=48", "problems.source.num_test=16", "problems.source.num_dev=16"),
    *("model.init.corpus_size=4800", "generate.max_rounds=1"),
]
SEARCHES = ("linear", "binary")


def steps_of(samples: list[int]) -> dict[str, dict[str, Any]]:
    """The named steps: the exact column, and one for each search and number of continuations."""
    exact = {"do": "locate", "of": "verified", "locator": {"kind": "exact"}}
    found: dict[str, dict[str, Any]] = {"exact": exact}
    for search in SEARCHES:
        for count in samples:
            locator = {
                "kind": "rollouts",
                "search": search,
                "samples": count,
                "max_tokens": 96,
                "temperature": 1.0,
                "top_p": 1.0,
            }
            step = {"do": "locate", "of": "verified", "model": "base", "form": "equations", "locator": locator}
            found[f"{search}-{count}"] = step
    return found


def errors(column: Manifest) -> dict[str, int | None]:
    """Sample -> its first wrong step, of those that have labels."""
    rows = (row for table in parquet.read_tables(column.files("column")) for row in table.to_pylist())
    return {
        row["trace_id"]: first_wrong([s["label"] for s in row["spans"]]) for row in rows if row["spans"] is not None
    }


def compare(exact: dict[str, int | None], found: dict[str, int | None], column: Manifest) -> dict[str, Any]:
    """A search's row of the table. `agreement`: percent of the samples that went wrong somewhere."""
    both = [key for key in exact if key in found]
    truth, said = [exact[key] for key in both], [found[key] for key in both]
    apart = [abs(a - b) for a, b in zip(truth, said, strict=True) if a is not None and b is not None]
    told = column.facts["rollouts"]
    return {
        "traces": len(both),
        "agreement": first_error_scores(truth, said)["wrong_accuracy"],
        "steps_apart": float(np.mean(apart)) if apart else None,
        "waves": told["waves"],
        "prefixes": told["prefixes"],
        "continuations": told["asked"],
        "continuations_per_trace": told["asked"] / max(1, len(both)),
        "tokens": told["tokens"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a toy world and 4 continuations, to see that it runs")
    parser.add_argument("--out", help="keep the run here (default: a temporary folder)")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 4, 8], help="continuations from behind a step")
    parser.add_argument("--config", default=str(Path(__file__).parent.parent / "configs/demo.yaml"))
    parser.add_argument("--set", action="append", default=[], help="an override of the config, path=value")
    told = parser.parse_args()
    samples = [4] if told.quick else told.samples
    with tempfile.TemporaryDirectory() as temporary:
        changes = [f"storage.root={told.out or temporary}", *(QUICK if told.quick else []), *told.set]
        changes += [f"steps.{name}={json.dumps(step)}" for name, step in steps_of(samples).items()]
        config = load_config(told.config, changes)
        setup_logging()
        with ray_connection(config.resources.ray):
            pipeline = Pipeline(config)
            exact, rows = errors(pipeline.until("exact")), dict[str, Any]()
            for name in steps_of(samples):
                if name != "exact":
                    column = pipeline.until(name)
                    rows[name] = compare(exact, errors(column), column)
                    print(name, json.dumps(rows[name]), flush=True)
        print(json.dumps({"wrong_traces": len(exact), "searches": rows}))


if __name__ == "__main__":
    main()
