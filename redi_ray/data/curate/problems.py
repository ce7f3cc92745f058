"""Which problems of verified traces a step `select` keeps, and the traces that stay, shard by shard.

One task reads ids and verdicts of all shards, and holds a few numbers a problem; traces are copied a few rows at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from redi_ray.config.curation import Difficulty
from redi_ray.config.selection import Balance, DiverseProblems, KeptSamples, RandomProblems, Rounds
from redi_ray.data.curate.difficulty import PassRates
from redi_ray.data.curate.kept import reasons_of_samples
from redi_ray.data.curate.scan import RATED
from redi_ray.data.curate.spreading import Spreading, selected_of
from redi_ray.data.curate.work import order_key
from redi_ray.data.sources.readers import DataError
from redi_ray.schemas import Verdict
from redi_ray.store import parquet, storage

Reasons = dict[str, str]
"""Problem -> why it is not wanted, empty if it is."""
Seen = tuple[str, int, str]
"""Problem, sample index and verdict of a trace."""
Wanted = Difficulty | Rounds | RandomProblems | Balance
MOST_ANSWERS = 10
"""Different reference answers that a balance is for."""


@dataclass(frozen=True)
class Kept:
    """What a selection did; `rows + sum(left_out)` is what came in."""

    rows: int
    problems: int
    left_out: dict[str, int]
    """Traces by reason."""
    verdicts: dict[str, int]
    """Of the traces that stay."""


def select(
    shards: Sequence[str],
    counted: Sequence[str],
    like: Sequence[str],
    columns: Sequence[str],
    root: str,
    out_uri: str,
    wanted: Wanted | KeptSamples | Spreading,
) -> Kept:
    """Write the shards, which lie below `root`, without the unwanted traces, under the same names.

    counted: shards of the traces that say what problems are like; problems that have none there are `not_rated`. like: those of
    the step whose number of problems, or of samples, is taken. columns: those of the column by which samples are kept, if any.
    wanted: of diverse problems the work that has found them.
    """
    if isinstance(wanted, KeptSamples):
        told = reasons_of_samples(shards, columns, like, wanted)
    else:
        told = _by_problem(shards, reasons(counted, like, wanted))
    rows, left_out, verdicts, problems = 0, Counter[str](), Counter[str](), set[str]()
    for shard, why in zip(shards, told, strict=True):
        left_out.update(reason for reason in why if reason)
        stays = [not reason for reason in why]
        if not any(stays):
            continue
        rows += sum(stays)
        out, start = storage.join(out_uri, shard.removeprefix(root).lstrip("/")), 0
        with parquet.table_writer(out, parquet.read_schema(shard)) as write:
            for batch in parquet.read_batches(shard):
                rest = batch.filter(pa.array(stays[start : start + batch.num_rows]))
                start += batch.num_rows
                verdicts.update(rest["verdict"].to_pylist())
                problems.update(rest["problem_id"].to_pylist())
                write(rest)
    return Kept(rows, len(problems), dict(left_out), dict(verdicts))


def _by_problem(shards: Sequence[str], why: Reasons) -> Iterator[list[str]]:
    """Why each trace goes, shard by shard: for what its problem does."""
    for shard in shards:
        batches = parquet.read_batches(shard, ["problem_id"])
        yield [why.get(problem, "not_rated") for batch in batches for problem in batch["problem_id"].to_pylist()]


def reasons(counted: Sequence[str], like: Sequence[str], wanted: Wanted | Spreading) -> Reasons:
    """Why each problem of the counted traces goes."""
    if isinstance(wanted, Spreading):
        stay = selected_of(wanted.selected)
        return {problem: "" if problem in stay else "not_diverse" for problem in problems_of(counted)}
    if isinstance(wanted, Difficulty):
        return by_difficulty(_traces(counted, wanted.model), wanted)
    if isinstance(wanted, Rounds):
        return by_rounds(_traces(counted, wanted.model), wanted)
    if isinstance(wanted, Balance):
        return by_balance(_answered(counted), wanted)
    return by_chance(problems_of(counted), number_of(wanted, like), wanted.seed, wanted.rest)


def problems_of(shards: Sequence[str]) -> set[str]:
    """The ids of all problems that have a trace there."""
    return {
        problem
        for shard in shards
        for batch in parquet.read_batches(shard, ["problem_id"])
        for problem in batch["problem_id"].to_pylist()
    }


def number_of(wanted: RandomProblems | DiverseProblems, like: Sequence[str]) -> int:
    """How many problems are taken: as many as these shards have, if the settings give no number."""
    return len(problems_of(like)) if wanted.problems is None else wanted.problems


def _traces(shards: Sequence[str], model: str | None = None) -> Iterator[Seen]:
    for shard in shards:
        for batch in parquet.read_batches(shard, ["problem_id", "sample_index", "verdict", "model"]):
            for row in batch.to_pylist():
                if model in (None, row["model"]):
                    yield row["problem_id"], row["sample_index"], row["verdict"]


def by_difficulty(traces: Iterable[Seen], wanted: Difficulty) -> Reasons:
    """By pass rate, as in curation: correct over what has a clear verdict."""
    counts, rates = defaultdict[str, list[int]](lambda: [0, 0]), PassRates(wanted)
    for problem, _, verdict in traces:
        if verdict in RATED:
            counts[problem][0] += verdict == Verdict.CORRECT
            counts[problem][1] += 1
    found = {}
    for problem, (correct, samples) in counts.items():
        rate = {"samples": samples, "correct": correct, "pass_rate": correct / samples}
        found[problem] = (rates.why(rate) or ("",))[0]
    return found


def rounds_needed(traces: Iterable[Seen], samples: int) -> dict[str, int | None]:
    """Problem -> the round, 1 being the first, with its first right trace; None where there is no right one.

    samples: of a round. Traces whose verdict is unclear count as tried.
    """
    first: dict[str, int | None] = {}
    for problem, index, verdict in traces:
        known = first.setdefault(problem, None)
        if verdict == Verdict.CORRECT and (known is None or index < known):
            first[problem] = index
    return {problem: None if index is None else index // samples + 1 for problem, index in first.items()}


def by_rounds(traces: Iterable[Seen], wanted: Rounds) -> Reasons:
    """By the rounds of sampling that they took."""

    def reason(needed: int | None) -> str:
        if needed is None:
            return "" if wanted.never else "never_solved"
        if needed <= wanted.more_than:
            return "too_easy"
        return "too_hard" if wanted.at_most is not None and needed > wanted.at_most else ""

    return {problem: reason(needed) for problem, needed in rounds_needed(traces, wanted.samples).items()}


def by_chance(problems: Iterable[str], number: int, seed: int, rest: bool = False) -> Reasons:
    """So many of them, those whose ids hash lowest with the seed; with `rest` all others."""
    ordered = sorted(problems, key=lambda problem: (order_key(seed, problem), problem))
    return {problem: "not_drawn" if (place < number) is rest else "" for place, problem in enumerate(ordered)}


def _answered(shards: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Problem, reference answer and verdict of each trace."""
    for shard in shards:
        for batch in parquet.read_batches(shard, ["problem_id", "answer", "verdict"]):
            for row in batch.to_pylist():
                yield row["problem_id"], row["answer"] or "", row["verdict"]


def by_balance(traces: Iterable[tuple[str, str, str]], wanted: Balance) -> Reasons:
    """As many of each answer as there are of the rarest; raises DataError for problems of many answers."""
    answers, verdicts = dict[str, str](), defaultdict[str, set[str]](set)
    for problem, answer, verdict in traces:
        answers[problem] = answer
        verdicts[problem].add(verdict)
    if len(found := set(answers.values())) > MOST_ANSWERS:
        some = ", ".join(repr(answer[:20]) for answer in sorted(found)[:3])
        raise DataError(
            f"`balance` is for problems of at most {MOST_ANSWERS} reference answers, such as a judge's Yes and No; these have "
            f"{len(found)}: {some}, ..."
        )
    needed = {str(Verdict.CORRECT)} | ({str(Verdict.WRONG)} if wanted.needs == "both" else set())
    usable = {answer: [p for p in answers if answers[p] == answer and needed <= verdicts[p]] for answer in found}
    least = min(map(len, usable.values()), default=0)
    why = dict.fromkeys(answers, "no_right_trace" if wanted.needs == "right" else "not_right_and_wrong")
    for problems in usable.values():
        drawn = by_chance(problems, least, wanted.seed)
        why |= {problem: "over_the_balance" if reason else "" for problem, reason in drawn.items()}
    return why
