"""What the data at hand say: how many problems, and from the first rows the lengths of prompts and traces.

Local and S3 files are read; the hub is not asked. Traces count as correct or wrong by the votes that come with them, since
nothing is verified here; without votes their lengths still count, and the shares stay assumptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from redi_ray.config.data import ExerciseSource, FilesSource, ImportTraces, NoSource, OpenR1Source, RowSource
from redi_ray.config.experiment import ArithmeticModel, ExperimentConfig, PretrainedModel, ScratchModel
from redi_ray.config.mixture import MixSource
from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.sources.built_in import alphabet_of, corpus_of, splits_of
from redi_ray.data.sources.rows import Parsed, ParsedTrace, Refused
from redi_ray.modeling.tokenizer import character_tokenizer, is_folder, load_tokenizer, train_bpe_tokenizer
from redi_ray.plan.assumptions import DEFAULTS, Assumption, known
from redi_ray.plan.errors import PlanError
from redi_ray.plan.imported import ImportedSample, read_rows, sample_import
from redi_ray.plan.lengths import unit_mean
from redi_ray.plan.reading import Rows, key_of, mixed_rows, named_sources, problems_in, read_source, source_paths
from redi_ray.text.prompts import to_messages
from redi_ray.text.steps import split_steps
from redi_ray.text.templates import Message
from redi_ray.text.tokens import completion_ids, prompt_ids
from redi_ray.text.turns import encode_turns

PAPER = "arXiv 2505.24850 (77,629 positives, 53,175 pairs) over the 516,499 rows of OpenR1-Math-Raw"
OPENR1 = (
    known("problems", 516_499, "rows of OpenR1-Math-Raw, by its card"),
    known("traces_per_problem", 1_209_403 / 516_499, "1,209,403 traces of OpenR1-Math-Raw, by its card"),
    known("solved_share", 77_629 / 516_499, PAPER),
    known("paired_share", 53_175 / 516_499, PAPER),
)
"""What is published of the source that the plan cannot read."""
WORLD_SAMPLE = 500
"""Solutions of the built-in world that are measured."""
TOKENIZER_SAMPLE = 1000
"""Traces that the tokenizer of a model from scratch is learnt from here."""


@dataclass(frozen=True)
class DataSample:
    """What was found out."""

    told: list[Assumption]
    """Numbers that the data replace, `problems` among them."""
    note: str
    """What was looked at, for the reader."""
    chosen: np.ndarray | None = None
    """`[n]` lengths of first correct traces as multiples of their mean; None: not measured."""
    rejected: np.ndarray | None = None
    """`[m]` the same of first wrong ones."""
    sources: Mapping[str, int] = field(default_factory=dict)
    """Problems of each step `problems` whose rows are at hand."""
    imported: Mapping[str, ImportedSample] = field(default_factory=dict)
    """Of each set that a step imports, by the step's name in the config."""


def sample_data(config: ExperimentConfig, rows: int) -> DataSample:
    """Look at the source of the problems, and at what steps import; `rows` of the files of each are tokenised.

    Raises PlanError where the number of problems cannot be known, DataError for files that cannot be read.
    """
    named = named_sources(config, rows)
    found = _sample_problems(config, rows, named)
    return replace(found, sources=problems_in(config, named), imported=dict(_sample_imports(config, rows)))


def _sample_imports(config: ExperimentConfig, rows: int) -> Iterator[tuple[str, ImportedSample]]:
    prompt = config.model.prompt
    read = {name: read_rows(step, prompt, rows, f"steps.{name}") for name, step in config.imports.items()}
    if not read:
        return
    count, _ = _token_counter(config, [text for some in read.values() if some is not None for text in some.texts])
    for name, step in config.imports.items():
        yield name, sample_import(step, read[name], count.chat, count.completion, f"steps.{name}")


def _sample_problems(config: ExperimentConfig, rows: int, named: dict[str, Rows | None]) -> DataSample:
    source = config.problems.source
    if isinstance(source, MixSource):
        return _sample_mixture(config, source, named, rows)
    if isinstance(source, NoSource):
        return DataSample([known("problems", 0, "there are none")], "imported sets alone")
    if isinstance(source, BuiltInSource):
        return _sample_world(config, source)
    if isinstance(source, FilesSource | ExerciseSource) or source_paths(source):
        return _sample_files(config, source, rows)
    most = config.problems.max_problems
    if isinstance(source, OpenR1Source) and most is None:  # the published shares are of all rows, also those left out
        return DataSample(
            list(OPENR1), f"{source.dataset} is not at hand; lengths are assumed, counts are published ones"
        )
    told = [known("problems", most, "problems.max_problems")] if most else []
    return DataSample(told, f"{source.dataset} is not at hand; lengths are assumed")


def _sample_mixture(
    config: ExperimentConfig, source: MixSource, named: dict[str, Rows | None], rows: int
) -> DataSample:
    """Of each source as many of its first rows as its share says."""
    values, problems, where = mixed_rows(source, named, problems_in(config, named), rows)
    told = [] if problems is None else [known("problems", problems, where)]
    return _measured(config, list(values), told, where) if values else DataSample(told, where)


def _sample_world(config: ExperimentConfig, source: BuiltInSource) -> DataSample:
    tokenizer, prompt = character_tokenizer(alphabet_of(source)), config.model.prompt
    asked = [(to_messages(problem, prompt), turns) for problem, turns in corpus_of(source, WORLD_SAMPLE)]
    found = [encode_turns(messages, turns, tokenizer, prompt) for messages, turns in asked]
    prompts = np.array([one.prompt_length for one in found])
    own = [np.array([turn.stop - turn.start for turn in one.own]) for one in found]
    lengths, turns = np.array([turns.sum() for turns in own]), np.array([len(turns) for turns in own])
    between = np.array([len(one.input_ids) - one.prompt_length for one in found]) - lengths
    told = [
        known("problems", len(splits_of(source).train), "problems.source.num_problems"),
        _mean("prompt_tokens", prompts, "the built-in world's corpus"),
        _mean("completion_tokens", lengths, "the built-in world's corpus"),
        Assumption(
            "rejected_ratio", 1.0, 0.9, 1.1, "a wrong solution of the built-in world has the form of a right one"
        ),
        Assumption("eval_ratio", 1.0, 0.9, 1.2, "so has an answer in evaluation"),
        known("bytes_per_token", 1.0, "one character a token"),
    ]
    if (turns > 1).any():
        told += [_mean("turns", turns, "the built-in world's corpus")]
        told += [_mean("tool_tokens", (between / (turns - 1))[turns > 1], "the built-in world's corpus")]
    else:
        steps = np.array([len(split_steps(said[-1]["content"], "equations")) for _, said in asked])
        told += [_mean("steps", steps, "the built-in world's corpus")]
    form = unit_mean(lengths)
    return DataSample(told, f"{WORLD_SAMPLE} solutions of the built-in world", form, form)


@dataclass
class _Seen:
    """What the rows looked at add up to."""

    prompts: dict[str, int] = field(default_factory=dict)
    """Problem -> tokens of its prompt."""
    correct: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, list[int]] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    rows: int = 0


def _sample_files(config: ExperimentConfig, source: RowSource, rows: int) -> DataSample:
    found = read_source(source, rows)
    assert found is not None, "its paths are there"
    seen, total, problems = len(found.values), found.total, found.problems
    exact = total == seen
    distinct = len({key_of(value) for value in found.values if isinstance(value, Parsed)})
    where = "counted" if exact else f"{total:,} rows, of which the first {seen:,} hold {distinct:,} problems"
    told = [known("problems", min(problems, config.problems.max_problems or problems), where)]
    return _measured(config, found.values, told, f"the first {seen:,} of {total:,} rows")


def _measured(
    config: ExperimentConfig, values: list[Parsed | Refused], told: list[Assumption], looked_at: str
) -> DataSample:
    """What rows add up to. told: how many problems there are."""
    parsed = [value for value in values if isinstance(value, Parsed)]
    if not parsed:
        raise PlanError(
            f"problems.source: none of {looked_at} is a problem "
            f"({values[0] if values else 'no row could be read'}); check problems.source.columns"
        )
    count, how = _token_counter(config, [trace.completion for value in parsed for trace in value.traces])
    seen = _Seen(rows=len(values))
    for value in parsed:
        key = key_of(value)
        if key not in seen.prompts:
            seen.prompts[key] = count.prompt(value.problem)
        for trace in value.traces:
            _add_trace(seen, key, trace, count.completion(trace.completion))
    told.append(_mean("prompt_tokens", np.array(list(seen.prompts.values())), how))
    note = f"{looked_at}, {how}"
    if not isinstance(config.generate, ImportTraces):
        return DataSample(told, note)
    return _with_traces(config, seen, told, note, how)


def _with_traces(config: ExperimentConfig, seen: _Seen, told: list[Assumption], note: str, how: str) -> DataSample:
    """The counts and lengths of imported traces."""
    limit, problems = config.curate.max_response_tokens, len(seen.prompts)
    chosen = np.array([lengths[0] for lengths in seen.correct.values()] or seen.unknown)
    if not len(chosen):
        raise PlanError(f"problems.source: {note} hold no correct trace, so there is nothing to plan a training with")
    number = len(seen.unknown) + sum(len(x) for side in (seen.correct, seen.wrong) for x in side.values())
    told += [known("traces_per_problem", number / problems, how), _mean("completion_tokens", chosen, how)]
    if seen.unknown or not seen.wrong:
        return DataSample(told, f"{note}; without votes, so correct and wrong are not told apart", unit_mean(chosen))
    fitting = {key for key, lengths in seen.correct.items() if lengths[0] <= limit}
    paired = {key for key in fitting if key in seen.wrong and seen.wrong[key][0] <= limit}
    rejected = np.array([seen.wrong[key][0] for key in seen.wrong if key in seen.correct] or [chosen.mean()], float)
    correct = sum(map(len, seen.correct.values()))
    told += [
        _share("solved_share", len(fitting), problems, how),
        _share("paired_share", len(paired), problems, how),
        _share("correct_share", correct, number, how),
        _ratio("rejected_ratio", rejected, chosen, how),
    ]
    return DataSample(told, note, unit_mean(chosen), unit_mean(rejected))


def _add_trace(seen: _Seen, key: str, trace: ParsedTrace, tokens: int) -> None:
    votes = [vote for vote in (trace.votes or {}).values() if vote is not None]
    if not votes:
        seen.unknown.append(tokens)
        return
    side = seen.correct if all(vote == "correct" for vote in votes) else seen.wrong
    side.setdefault(key, []).append(tokens)


@dataclass(frozen=True)
class _Counter:
    prompt: Callable[[str], int]
    """Of a problem."""
    chat: Callable[[list[Message]], int]
    """Of a prompt as it stands."""
    completion: Callable[[str], int]


def _token_counter(config: ExperimentConfig, texts: list[str]) -> tuple[_Counter, str]:
    """How tokens of a problem's prompt and of a completion are counted, and the words for it."""
    prompt, tokenizer, name = config.model.prompt, None, ""
    if isinstance(config.model.init, PretrainedModel):
        name = config.model.init.path
        tokenizer = find_tokenizer(name, config.model.overrides.trust_remote_code)
    elif isinstance(config.model.init, ScratchModel) and texts:
        texts = texts[:TOKENIZER_SAMPLE]
        tokenizer, name = train_bpe_tokenizer(texts, config.model.init.vocab_size), "one learnt from these traces"
    elif isinstance(config.model.init, ArithmeticModel):
        assert isinstance(config.problems.source, BuiltInSource)
        tokenizer, name = character_tokenizer(alphabet_of(config.problems.source)), "characters"
    if tokenizer is None:
        ratio = DEFAULTS["bytes_per_token"].value
        frame = len(prompt.template.encode()) + len((prompt.system or "").encode()) + 60  # the chat template's own
        counter = _Counter(
            lambda text: round((len(text.encode()) + frame) / ratio),
            lambda chat: round(sum(len(turn["content"].encode()) + 60 for turn in chat) / ratio),
            lambda text: round(len(text.encode()) / ratio),
        )
        return counter, f"at {ratio} bytes a token, since the tokenizer is not at hand"

    def whole(text: str) -> int:
        try:
            return len(completion_ids(text, tokenizer, prompt))
        except ValueError:  # it does not begin with the prefix; what is dropped for it later still has a length
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return _Counter(
        lambda text: len(prompt_ids(to_messages(text, prompt), tokenizer, prompt)),
        lambda chat: len(prompt_ids(chat, tokenizer, prompt)),
        whole,
    ), f"tokenised by {name}"


def find_tokenizer(path: str, trust_remote_code: bool = False) -> Any | None:
    """The tokenizer of a folder, or of a hub name that is in the local cache; None if it is not."""
    if is_folder(path):
        return load_tokenizer(path, trust_remote_code)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return None
    return tokenizer if tokenizer.chat_template else None


def _mean(name: str, lengths: np.ndarray, how: str) -> Assumption:
    """A measured mean, with two standard errors on either side; of a single one, half and twice."""
    mean, error = float(lengths.mean()), 2 * float(lengths.std()) / len(lengths) ** 0.5
    low, high = (mean - error, mean + error) if len(lengths) > 1 else (mean / 2, mean * 2)
    return Assumption(name, mean, min(mean, max(1.0, low)), high, f"mean of {len(lengths):,}, {how}")


def _share(name: str, part: int, whole: int, how: str) -> Assumption:
    """A measured share with its 95% interval (Agresti and Coull 1998), which has a width even where all are alike."""
    share, centre = part / whole, (part + 2) / (whole + 4)
    error = 2 * (centre * (1 - centre) / (whole + 4)) ** 0.5
    low, high = max(0.0, min(share, centre - error)), min(1.0, max(share, centre + error))
    return Assumption(name, share, low, high, f"{part:,} of {whole:,}, {how}")


def _ratio(name: str, above: np.ndarray, below: np.ndarray, how: str) -> Assumption:
    """A measured ratio of means, with two standard errors on either side."""
    ratio = float(above.mean() / below.mean())
    spread = (above.var() / above.mean() ** 2 / len(above) + below.var() / below.mean() ** 2 / len(below)) ** 0.5
    error = 2 * ratio * float(spread)
    return Assumption(
        name, ratio, max(0.0, ratio - error), ratio + error, f"means of {len(above):,} and {len(below):,}, {how}"
    )
