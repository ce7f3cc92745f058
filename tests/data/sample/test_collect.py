"""Traces are written once each, whatever is resumed, asked again or found twice, and the counts say so."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import ray.cloudpickle
import ray.data

from redi_ray.config.answers import VerifySettings
from redi_ray.config.data import VllmTraces
from redi_ray.data.sample.collect import Verification, collect
from redi_ray.data.sample.generate import generate_rounds
from redi_ray.data.sample.samples import COMPLETION, Requests, SampleStats, Sampling, explode
from redi_ray.data.sample.survey import survey, trace_shards
from redi_ray.data.sources.ids import IdSet, hash_ids
from redi_ray.data.verify.traces import output_of, verify_traces
from redi_ray.errors import UserError
from redi_ray.schemas import PROBLEM
from redi_ray.stages.live import LiveCounters
from redi_ray.store import parquet, storage

SAMPLING = Sampling(1.0, 1.0, 100, 3)
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test


def problems(count: int, first: int = 0) -> pa.Table:
    """`n + n` with n as id; what it gives is the answer."""
    rows = [
        {"problem_id": str(n), "problem": f"{n} + {n}", "answer": str(2 * n), "source": None}
        for n in range(first, first + count)
    ]
    return pa.Table.from_pylist(rows, schema=PROBLEM)


def reckon(requests: pa.Table, log: str | None = None, fails: str = "") -> pa.Table:
    """A teacher that reckons: right where the sample's index is not below the problem's number modulo 4.

    log: a folder where each batch leaves its requests. fails: `once` fails a third of the requests in the first pass over
    them, `always` in every one, `refused` says that they are to blame themselves, `stop` raises.
    """
    rows = []
    ids = [f"{row['problem_id']}#{row['sample_index']}" for row in requests.to_pylist()]
    seen = set()
    if log is not None:
        seen = {line for path in Path(log).glob("*.txt") for line in path.read_text().splitlines()}
        (Path(log) / f"{len(list(Path(log).iterdir()))}-{hash(tuple(ids))}.txt").write_text("\n".join(ids))
    for identity, row in zip(ids, requests.to_pylist(), strict=True):
        number = int(row["problem_id"])
        ill = number % 3 == 0 and (fails in ("always", "refused") or (fails == "once" and identity not in seen))
        if fails == "stop":
            raise UserError("the teacher has gone home")
        if ill:
            told = {"failure": "refused" if fails == "refused" else "engine_error", "detail": "ill"}
            rows.append({**row, **told, "retry": fails != "refused"})
            continue
        result = 2 * number + (row["sample_index"] < number % 4)
        text = f"\\boxed{{{result}}}"
        drawn = {"token_ids": [number, row["sample_index"]], "logps": [-number, -0.5]}
        told = {"finish_reason": "stop", "num_tokens": 7, "prompt_tokens": 3}
        rows.append({**row, "completion": text, **told, **drawn})
    return pa.Table.from_pylist(rows, schema=COMPLETION)


def teacher(dataset: ray.data.Dataset, **how: str) -> ray.data.Dataset:
    return dataset.map_batches(partial(reckon, **how), batch_size=16, batch_format="pyarrow", num_cpus=0.5)


def run(out: Path, requests: Requests, sampling: Sampling = SAMPLING, **how: str) -> SampleStats:
    sampler = partial(teacher, **how)
    return collect(requests, sampler, model="reckoner", sampling=sampling, out_uri=str(out), shard_rows=10)


def ids_in(folder: Path) -> list[str]:
    return [
        value for table in parquet.read_tables(trace_shards(str(folder))) for value in table["trace_id"].to_pylist()
    ]


def forty() -> Requests:
    return Requests.of_table(explode(problems(20), range(2)))


def test_only_what_is_missing_is_asked(ray_session: None, tmp_path: Path):
    """Half of the shards lost: the other half stays as it is, and only the lost requests are drawn again."""
    first = run(tmp_path / "out", forty())
    assert (first.asked, first.traces, first.resumed, first.tokens) == (40, 40, 0, 280)
    shards = trace_shards(str(tmp_path / "out"))
    for lost in shards[::2]:
        Path(lost).unlink()
    kept = {shard: Path(shard).read_bytes() for shard in shards[1::2]}
    survivors = set(ids_in(tmp_path / "out"))
    (tmp_path / "log").mkdir()
    again = run(tmp_path / "out", forty(), log=str(tmp_path / "log"))
    assert (again.asked, again.traces, again.resumed, again.tokens) == (40, 40, len(survivors), 280)
    assert sorted(ids_in(tmp_path / "out")) == sorted(f"{n}#{i}" for n in range(20) for i in range(2))
    assert {shard: Path(shard).read_bytes() for shard in kept} == kept
    asked = {line for path in (tmp_path / "log").iterdir() for line in path.read_text().splitlines()}
    assert not asked & survivors


def test_tokens_with_their_log_probs_are_kept_where_they_are_asked_for(ray_session: None, tmp_path: Path):
    """The same whether shards were lost and drawn again, or stood there twice; else traces have no such columns."""
    run(tmp_path / "plain", forty())
    assert {"token_ids", "logps"}.isdisjoint(parquet.read_schema(trace_shards(str(tmp_path / "plain"))[0]).names)
    kept = replace(SAMPLING, logps=True)
    run(tmp_path / "out", forty(), kept)
    shards = trace_shards(str(tmp_path / "out"))
    Path(shards[0]).unlink()
    (whole,) = parquet.read_tables([shards[1]])
    parquet.write_table(str(tmp_path / "out" / "part-zz.parquet"), whole.slice(0, 4))
    assert run(tmp_path / "out", forty(), kept).doubles == 4
    tables = parquet.read_tables(trace_shards(str(tmp_path / "out")), ["trace_id", "token_ids", "logps"])
    found = {row["trace_id"]: (row["token_ids"], row["logps"]) for table in tables for row in table.to_pylist()}
    assert found == {f"{n}#{i}": ([n, i], [-n, -0.5]) for n in range(20) for i in range(2)}


def test_a_trace_in_two_shards_stays_in_the_first(ray_session: None, tmp_path: Path):
    """As a killed driver's last write leaves it: the double goes, and with it the verdicts on the shard that changed."""
    run(tmp_path / "out", forty())
    before = {shard: set(table["trace_id"].to_pylist()) for shard in trace_shards(str(tmp_path / "out"))
              for table in parquet.read_tables([shard])}  # fmt: skip
    (whole,) = parquet.read_tables([next(iter(before))])
    late = str(tmp_path / "out" / "part-zz.parquet")
    parquet.write_table(late, pa.concat_tables([whole.slice(0, 4), whole.slice(0, 1)]))
    verdicts = str(tmp_path / "verdicts")
    verify_traces(trace_shards(str(tmp_path / "out")), verdicts, VerifySettings(), concurrency=1)

    found = survey(str(tmp_path / "out"), verdicts)
    assert (found.stats.traces, found.stats.doubles, len(found.ids)) == (40, 5, 40)
    assert {s: set(t["trace_id"].to_pylist()) for s in before for t in parquet.read_tables([s])} == before
    assert next(parquet.read_tables([late])).num_rows == 0
    assert not Path(output_of(late, verdicts)).exists()
    assert survey(str(tmp_path / "out"), verdicts).stats.doubles == 0


def test_a_failed_request_is_asked_again_and_rejected_at_last(ray_session: None, tmp_path: Path):
    """What the engine failed at is asked again, up to three times; what is to blame itself is not."""
    (tmp_path / "log").mkdir()
    stats = run(tmp_path / "once", forty(), fails="once", log=str(tmp_path / "log"))
    assert (stats.traces, stats.rejected) == (40, Counter())
    times = Counter(line for path in (tmp_path / "log").iterdir() for line in path.read_text().splitlines())
    assert set(times.values()) == {1, 2}
    assert sum(count == 2 for count in times.values()) == 14

    for how, reason in (("always", "engine_error"), ("refused", "refused")):
        (tmp_path / how).mkdir()
        stats = run(tmp_path / "out", forty(), fails=how, log=str(tmp_path / how))
        assert (stats.asked, stats.traces, stats.rejected) == (40, 26, Counter({reason: 14}))
        rejects = [
            row
            for table in parquet.read_tables(storage.list_files(str(tmp_path / "out" / "rejects")))
            for row in table.to_pylist()
        ]
        assert sorted(row["where"] for row in rejects) == sorted(f"{n}#{i}" for n in range(0, 20, 3) for i in range(2))
        assert {(row["reason"], row["detail"]) for row in rejects} == {(reason, "ill")}
        times = Counter(line for path in (tmp_path / how).iterdir() for line in path.read_text().splitlines())
        assert max(times.values()) == (3 if how == "always" else 1)
    assert run(tmp_path / "out", forty()).rejected == Counter()
    assert not storage.list_files(str(tmp_path / "out" / "rejects")), "what was rejected once has its trace now"


def test_a_samplers_own_error_arrives_as_it_is(ray_session: None, tmp_path: Path):
    with pytest.raises(UserError, match=r"^the teacher has gone home$"):
        run(tmp_path / "out", forty(), fails="stop")


def test_rounds_ask_what_is_unsolved_and_tell_how_it_goes(
    ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Two samples a round; problem n is solved by the sample n modulo 4: half in the first round, all after the second.

    Verdicts come while a round is drawn, so the counters know them; a second call finds everything there.
    """
    shards = [str(tmp_path / f"problems-{part}.parquet") for part in range(2)]
    for part, uri in enumerate(shards):
        parquet.write_table(uri, problems(12, 12 * part))
    config = VllmTraces(samples_per_round=2, max_rounds=4, shard_rows=8)
    for attempt in range(2):
        with caplog.at_level(logging.INFO, logger="redi_ray"), LiveCounters(24, seconds_per_line=0.0) as live:
            caplog.clear()
            counts = generate_rounds(
                config,
                shards,
                24,
                teacher,
                model="reckoner",
                traces_uri=str(tmp_path / "traces"),
                verification=Verification(str(tmp_path / "verified"), VerifySettings(), 1),
                on_progress=live,
            )
        assert [round["problems"] for round in counts.rounds] == [24, 12]
        assert [(round["asked"], round["traces"], round["correct"], round["solved"]) for round in counts.rounds] == [
            (48, 48, 18, 12),  # remainder 0: both right, 1: the second
            (24, 24, 18, 24),  # remainder 2: both right, 3: the second
        ]
        assert [round["resumed"] for round in counts.rounds] == [48 * attempt, 24 * attempt]
        assert (counts.total.asked, counts.total.traces, counts.total.tokens) == (72, 72, 504)
        assert (live.sum.traces, live.sum.asked, live.sum.rounds, live.sum.solved) == (72, 72, 2, 24)
        assert (live.sum.verified, live.sum.correct) == (72, 36)
    lines = [record.message for record in caplog.records if record.message.startswith("generate: ")]
    assert lines[-1] == (
        "generate: 72 of 72 traces, round 1, 50.0% correct, solved 24 of 24, 0.0% cut off, 0.0% loops"
    ), "the second call draws nothing, so that it has no rate"


def test_sets_of_ids_know_what_they_hold():
    """Against Python's own sets, over additions that overlap."""
    rng = np.random.default_rng(0)
    ours, theirs = IdSet(), set[str]()
    for _ in range(30):
        batch = [f"p{number}" for number in rng.integers(0, 400, 40)]
        assert ours.add(hash_ids(batch)) == len(set(batch) - theirs)
        theirs |= set(batch)
        probe = [f"p{number}" for number in rng.integers(0, 800, 50)]
        assert ours.contains(hash_ids(probe)).tolist() == [value in theirs for value in probe]
        assert len(ours) == len(theirs)
    assert hash_ids(["train-7#3"]).tolist() == [12483060888881441784], "the same on every machine"


@pytest.mark.slow
def test_the_driver_does_not_grow_with_the_problems(ray_session: None, tmp_path: Path):
    """200,000 problems of 800 characters, half of them solved, a fifth of the rest's samples there: requests are made by
    tasks, and the driver keeps 8 bytes for each of those ids."""
    text = "x" * 800
    for part in range(50):
        ids = [f"p{number}" for number in range(4000 * part, 4000 * (part + 1))]
        columns = {"problem_id": ids, "problem": [text] * 4000, "answer": ["1"] * 4000, "source": [None] * 4000}
        parquet.write_table(str(tmp_path / f"part-{part:03d}.parquet"), pa.table(columns).cast(PROBLEM))
    solved = IdSet(hash_ids(f"p{number}" for number in range(0, 200_000, 2)))
    done = IdSet(hash_ids(f"p{number}#0" for number in range(1, 200_000, 10)))
    shards = storage.list_files(str(tmp_path), ".parquet")
    before = psutil.Process().memory_info().rss
    requests = Requests.of_problems(shards, 200_000, range(4), solved).without(done)
    assert requests.asked == 400_000 - 20_000
    rows = samples = 0
    counted = requests.dataset.map_batches(_count, batch_size=None, batch_format="pyarrow", num_cpus=0.5)
    for row in counted.iter_rows():
        rows, samples = rows + row["rows"], samples + row["samples"]
    assert rows == requests.asked
    assert samples == 100_000 * (0 + 1 + 2 + 3)
    grown = psutil.Process().memory_info().rss - before
    assert grown < 150 << 20, f"the driver grew by {grown >> 20} MiB; the requests' texts alone are 300"


def _count(requests: pa.Table) -> pa.Table:
    return pa.table({"rows": [requests.num_rows], "samples": [int(np.sum(requests["sample_index"].to_numpy()))]})
