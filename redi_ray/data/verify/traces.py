"""Traces -> verified traces: one Ray Data task per Parquet shard.

A task reads one shard of `TRACE` rows, verifies it in batches, and writes one shard of `VERIFIED_TRACE` rows of the same
file name, atomically. That makes resuming simple and exact: a shard whose output exists is done, whatever was killed
when. The driver sees one small row of counts per shard, so its memory does not grow with the corpus.

Left out on purpose: retries of single rows. Nothing a row holds can raise; it gets the verdict `error` instead.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.answers import VerifySettings
from redi_ray.data.sources.tests_table import TestsReader
from redi_ray.data.verify.conform import conform
from redi_ray.data.verify.tested import Tested
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.errors import storage_errors
from redi_ray.schemas import CUT_OFF, TESTED, VERIFIED_TRACE, VOTES, Verdict, stored_votes, votes_of, with_tests
from redi_ray.store import parquet, storage
from redi_ray.text.answers import AnswerVerdict
from redi_ray.text.code_tests import CodeTests
from redi_ray.text.finish import finish_reason, is_partial
from redi_ray.text.verdicts import decide

TESTS_VOTE = "tests"
"""Name of the vote of tests."""
BATCH_BYTES = 1 << 20
"""Text held unpacked at a time, per comparing process. Little, so that the same memory serves again: pages that are new to
a process can cost as much as the work on a long trace."""


@dataclass
class VerifyCounts:
    """What a verification run did. `rows` is the sum of `verdicts`."""

    rows: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    shards_reused: int = 0
    """Shards that an earlier run had finished."""
    quick: int = 0
    """Comparisons decided by the fast path, by the cache, and by Math-Verify."""
    cached: int = 0
    compared: int = 0
    tested: int = 0
    """Solutions that were run."""
    verify_seconds: float = 0.0
    """Time the actors spent on verdicts, the next two excluded. Summed over actors, like those."""
    start_seconds: float = 0.0
    """Time they waited for their worker processes to start."""
    io_seconds: float = 0.0
    """Time they read, unpacked and wrote Parquet."""
    seconds: float = 0.0


def verify_table(
    table: pa.Table,
    verifier: AnswerVerifier,
    settings: VerifySettings,
    tests: Sequence[CodeTests | None] | None = None,
) -> pa.Table:
    """`TRACE` rows -> as many `VERIFIED_TRACE` rows, in the same order.

    tests: of each row's problem, None where it has none. With them there is a column more (`redi_ray.schemas.TESTED`), and what
    they say stands where Math-Verify's vote does. A trace that was broken off, or that ended for a reason nobody knows, is never
    wrong, whatever the votes and the policy say: it has no answer then.
    """
    table, readable = conform(table)
    golds, completions = table["answer"].to_pylist(), table["completion"].to_pylist()
    reasons = table["finish_reason"].to_pylist()
    finished = [finish_reason(reason) not in CUT_OFF for reason in reasons]
    shipped = [votes_of(votes) for votes in table["votes"].to_pylist()]
    # the paper's rule counts a missing vote as one against the trace, so there it must stay missing
    any_vote = settings.policy == "paper"
    keep = [settings.reuse_votes and (any_vote or votes.get("math_verify") is not None) for votes in shipped]
    tested = _test(completions, finished, readable, tests, verifier, settings)
    judged = "math_verify" in settings.votes
    asked = [i for i in range(len(golds)) if judged and readable[i] and not keep[i] and i not in tested]
    found = verifier.verify_many([(golds[i], completions[i]) for i in asked], [finished[i] for i in asked])
    ours = {i: _of_part(verdict, reasons[i]) for i, verdict in zip(asked, found, strict=True)}
    ours |= {i: _of_part(AnswerVerdict(one.verdict, one.code), reasons[i]) for i, one in tested.items()}
    others = [index for index in range(len(golds)) if index not in ours]
    read = verifier.extract_many([completions[i] for i in others], [finished[i] for i in others])
    answers = {**dict(zip(others, read, strict=True)), **{i: verdict.extracted_answer for i, verdict in ours.items()}}
    verdicts, verdicts_by = [], []
    for index, votes in enumerate(shipped):
        by: dict[str, str] = dict(votes)
        if index in tested:
            by[TESTS_VOTE] = ours[index].verdict.value
        elif judged and not keep[index]:
            by["math_verify"] = (ours[index].verdict if index in ours else Verdict.ERROR).value
        verdict = (
            decide_votes(by, settings, reasons[index], tested=index in tested) if readable[index] else Verdict.ERROR
        )
        verdicts.append(verdict.value)
        verdicts_by.append(stored_votes(in_order(by, settings)))
    for name, values, kind in (
        ("verdict", verdicts, pa.string()),
        ("verdict_by", verdicts_by, VOTES),
        ("extracted_answer", [answers[i] for i in range(len(golds))], pa.string()),
    ):
        table = table.append_column(name, pa.array(values, kind))
    if tests is None:
        return table.cast(VERIFIED_TRACE)
    plain = [tested[i].plain() if i in tested else None for i in range(len(golds))]
    return table.append_column(TESTED, pa.array(plain, TESTED.type)).cast(with_tests(VERIFIED_TRACE))


def _test(
    completions: Sequence[str],
    finished: Sequence[bool],
    readable: Sequence[bool],
    tests: Sequence[CodeTests | None] | None,
    verifier: AnswerVerifier,
    settings: VerifySettings,
) -> dict[int, Tested]:
    """Of the rows whose problems have tests what those say."""
    found = {index: one for index, one in enumerate(tests or ()) if one is not None and readable[index]}
    if not found or settings.tests is None:
        return {}
    told = verifier.test_many([(completions[index], one, finished[index]) for index, one in found.items()])
    return dict(zip(found, told, strict=True))


def _of_part(verdict: AnswerVerdict, reason: str | None) -> AnswerVerdict:
    """The vote on a trace that ended for `reason`: a part that holds another answer than the gold may not have been done."""
    if verdict.verdict == Verdict.WRONG and is_partial(reason):
        return AnswerVerdict(Verdict.NO_ANSWER, None)
    return verdict


def decide_votes(
    by: Mapping[str, str], settings: VerifySettings, reason: str | None, *, tested: bool = False
) -> Verdict:
    """The policy's verdict on a trace that ended for `reason`; one that was broken off is never wrong.

    by: verifier -> vote; one that is no Verdict's name counts as not cast. tested: whether the vote of tests is ours, and stands
    where Math-Verify's would. No judge has a say then.
    """
    known = set(Verdict)
    cast = {name: Verdict(by[name]) if by.get(name) in known else None for name in settings.votes}
    if tested:
        told = Verdict(by[TESTS_VOTE])
        cast = {name: told if name == "math_verify" else vote for name, vote in cast.items() if name != "judge"}
        cast = cast or {TESTS_VOTE: told}
    verdict = decide(cast, settings.policy)
    return Verdict.NO_ANSWER if verdict == Verdict.WRONG and is_partial(reason) else verdict


def in_order(by: Mapping[str, str], settings: VerifySettings) -> dict[str, str]:
    """The votes that count first, as the settings name them, then the others by name."""
    names = [*settings.votes, *sorted(by.keys() - set(settings.votes))]
    return {name: by[name] for name in names if name in by}


def verify_shard(
    uri: str, out_uri: str, verifier: AnswerVerifier, settings: VerifySettings, tests: TestsReader | None = None
) -> Counter[str]:
    """Verify one shard into `out_uri/<its file name>`; verdict -> rows. tests: finds those of its problems.

    At most `batch_rows` rows are held unpacked, fewer if they are long (BATCH_BYTES).
    """
    fs, path = storage.filesystem(uri)
    verdicts: Counter[str] = Counter()
    sink = pa.BufferOutputStream()
    with storage_errors("read", uri):
        file = fs.open_input_file(path)
    schema = VERIFIED_TRACE if tests is None else with_tests(VERIFIED_TRACE)
    with file as source, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        shard = pq.ParquetFile(source)
        for batch in shard.iter_batches(batch_size=_rows_per_batch(shard.metadata, settings)):
            rows = pa.Table.from_batches([batch])
            table = verify_table(rows, verifier, settings, None if tests is None else _tests_of(rows, tests))
            verdicts.update(table["verdict"].to_pylist())
            writer.write_table(table)
    storage.write_bytes(output_of(uri, out_uri), sink.getvalue())
    return verdicts


def _tests_of(rows: pa.Table, tests: TestsReader) -> list[CodeTests | None]:
    rows = conform(rows)[0]
    return tests.find(rows["problem_id"].to_pylist(), rows["problem"].to_pylist())


def _rows_per_batch(shard: pq.FileMetaData, settings: VerifySettings) -> int:
    size = sum(shard.row_group(number).total_byte_size for number in range(shard.num_row_groups))
    fit = settings.processes * BATCH_BYTES * shard.num_rows // max(1, size)
    return max(1, min(settings.batch_rows, fit))


def output_of(uri: str, out_uri: str) -> str:
    return storage.join(out_uri, uri.rstrip("/").rpartition("/")[2])


class VerifyShards:
    """The actor behind `verify_traces`: owns a verifier, hence its worker processes and its cache."""

    def __init__(self, out_uri: str, settings: VerifySettings, tests_uri: str | None = None) -> None:
        """tests_uri: the table of problems' tests, if there is one."""
        self.out_uri, self.settings = out_uri, settings
        self.tests = None if tests_uri is None or settings.tests is None else TestsReader(tests_uri)
        self.verifier = AnswerVerifier(settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Descriptors {uri: [n]} -> one row of counts each; `failure` says why a shard could not be read or written."""
        rows = [self._verify(str(uri)) for uri in batch["uri"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _verify(self, uri: str) -> dict[str, Any]:
        before, start, failure = asdict(self.verifier.counts), time.perf_counter(), ""
        verdicts: Counter[str] = Counter()
        try:
            verdicts = verify_shard(uri, self.out_uri, self.verifier, self.settings, self.tests)
        except (OSError, pa.ArrowException) as error:
            told = isinstance(error, storage.StorageError)
            failure = str(error) if told else f"{uri}: {type(error).__name__}: {error}"
        counts = {name: value - before[name] for name, value in asdict(self.verifier.counts).items()}
        per_verdict = {verdict.value: verdicts[verdict.value] for verdict in Verdict}
        io_seconds = time.perf_counter() - start - counts["start_seconds"] - counts["verify_seconds"]
        return {**per_verdict, **counts, "io_seconds": io_seconds, "failure": failure}

    def __del__(self) -> None:
        if hasattr(self, "verifier"):
            self.verifier.close()


def verify_traces(
    inputs: list[str],
    out_uri: str,
    settings: VerifySettings,
    *,
    concurrency: int,
    tests_uri: str | None = None,
    label_selector: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> VerifyCounts:
    """Verify Parquet shards of traces into `out_uri`, with `concurrency` actors of `settings.processes` cores each, on nodes
    that `label_selector` matches. tests_uri: the table of problems' tests (TESTS), if there is one.

    Shards whose output exists are not computed again, only counted, so a run that was killed is continued by calling
    this once more. Use a fresh `out_uri` for other settings. Ray must be connected. `on_progress` hears of rows as their
    shards are done.

    Raises StorageError naming every shard that could not be read or written, after all others are done; ValueError if
    two inputs have the same file name.
    """
    import ray.data

    start = time.perf_counter()
    names = Counter(output_of(uri, out_uri) for uri in inputs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"several input shards would be written to {twice[0]}; give them different file names")
    done = set(storage.list_files(out_uri, ".parquet"))
    prefix = storage.resolve(out_uri)
    counts, totals, failures = VerifyCounts(shards=len(inputs)), Counter[str](), []
    todo = []
    for uri in inputs:
        output = output_of(storage.resolve(uri), prefix)
        if output in done:
            counts.shards_reused += 1
            for table in parquet.read_tables([output], ["verdict"]):
                totals.update(table["verdict"].to_pylist())
                on_progress(table.num_rows)
        else:
            todo.append({"uri": storage.resolve(uri)})
    if todo:
        tasks = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
            VerifyShards,
            fn_constructor_args=(prefix, settings, tests_uri),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(concurrency, len(todo))),
            num_cpus=settings.processes,
            label_selector=dict(label_selector) if label_selector else None,
        )
        for row in tasks.iter_rows():
            verdicts = {verdict.value: row[verdict.value] for verdict in Verdict}
            totals.update(verdicts)
            on_progress(sum(verdicts.values()))
            for name in ("quick", "cached", "compared", "tested", "start_seconds", "verify_seconds", "io_seconds"):
                setattr(counts, name, getattr(counts, name) + row[name])
            failures += [row["failure"]] if row["failure"] else []
    counts.verdicts = {verdict.value: totals[verdict.value] for verdict in Verdict}
    counts.rows, counts.seconds = sum(totals.values()), time.perf_counter() - start
    if failures:
        raise storage.StorageError(f"{len(failures)} of {len(inputs)} shards failed:\n" + "\n".join(failures[:20]))
    return counts
