"""The development problems that models are measured on while they train: those that were held out, less the benchmarks'.

A model that was chosen by a problem is no longer tested by it. Only copies are left out: development problems are never
trained on, so one that merely resembles a benchmark's gives nothing away.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.cluster.runtime import log
from redi_ray.config.benchmarks import WORLD
from redi_ray.data.sources.readers import DataError
from redi_ray.eval.benchmarks import BenchmarkError, load_benchmark
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest
from redi_ray.text.problem_key import problem_key


def dev_problems(run: Run, problems: Manifest) -> Manifest:
    """The table `dev` (PROBLEM schema) of problems that no configured benchmark holds, equal but for their typesetting.

    The key holds what is left out rather than the benchmarks, so that a run whose benchmarks change goes on with what it
    has as long as the same problems remain. Raises DataError if none does.
    """
    import ray

    keys = benchmark_keys(run, problems)
    find = ray.remote(num_cpus=1, max_retries=2)(copies)
    left_out: dict[str, list[str]] = ray.get(find.remote(problems.files("dev"), keys))
    ids = sorted(problem_id for found in left_out.values() for problem_id in found)
    held_out = problems.facts["dev"]
    if held_out == len(ids):
        raise DataError(
            f"a probe is set, but no development problem is left: {held_out} were held out, and {len(ids)} of them are in "
            f"a benchmark ({', '.join(left_out) or 'none'}). Hold out more: problems.dev.share, or num_dev of the built-in world"
        )
    stage = run.stage("dev", {"left_out": ids}, {"problems": problems})
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    write = ray.remote(num_cpus=1, max_retries=2)(write_rest)
    ray.get(write.remote(problems.files("dev"), ids, storage.join(stage.uri, "dev")))
    dropped = {f"in_benchmark_{name}": len(found) for name, found in left_out.items()}
    counts = {"in": held_out, "out": held_out - len(ids)}
    return run.publish(stage, started, counts=counts, dropped=dropped, facts={"compared_with": sorted(keys)})


def benchmark_keys(run: Run, problems: Manifest) -> dict[str, set[str]]:
    """Name -> keys of all the benchmark's problems, also those that `max_problems` leaves out of the evaluation.

    A benchmark of the hub that cannot be had is warned of and passed over: training must not need a network.
    """
    found = {}
    for settings in run.config.evaluate.benchmarks:
        try:
            if settings.name == WORLD:
                tables = list(parquet.read_tables(problems.files("test"), ["problem"]))
            else:
                tables = [load_benchmark(replace(settings, max_problems=None))]
        except BenchmarkError as error:
            log.warning("development problems are not compared with %s: %s", settings.name, error)
            continue
        found[settings.name] = {problem_key(text) for table in tables for text in table["problem"].to_pylist()}
    return found


def copies(shards: list[str], keys: dict[str, set[str]]) -> dict[str, list[str]]:
    """Benchmark -> ids of the problems that it holds too, sorted; a problem of several counts for the first of them."""
    found: dict[str, list[str]] = {}
    for table in parquet.read_tables(shards, ["problem_id", "problem"]):
        for row in table.to_pylist():
            key = problem_key(row["problem"])
            name = next((name for name, held in keys.items() if key in held), None)
            if name is not None:
                found.setdefault(name, []).append(row["problem_id"])
    return {name: sorted(ids) for name, ids in sorted(found.items())}


def write_rest(shards: list[str], left_out: list[str], out_uri: str) -> None:
    """Copy the shards without the problems in `left_out`."""
    for number, table in enumerate(parquet.read_tables(shards)):
        among = pc.is_in(table["problem_id"], value_set=pa.array(left_out, pa.string()))
        parquet.write_table(storage.join(out_uri, f"part-{number:05d}.parquet"), table.filter(pc.invert(among)))
