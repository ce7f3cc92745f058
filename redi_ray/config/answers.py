"""Settings of answer extraction and verification, standard library only like the rest of the core's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from redi_ray.config.code import CodeSettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.strict import STRICT, require

VERIFIER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
Policy = Literal["all", "any", "drop_disagreement", "math_verify_only", "both_false", "paper"]

PLAIN_EXTRACTORS = ("final_answer", "tagged", "boxed", "stated", "conclusion", "last_number", "whole")

DEFAULT_EXTRACT = ("final_answer", "tagged", "boxed", "stated", "conclusion")


def check_extractor(spec: str) -> None:
    """ValueError unless `spec` names an extractor (see `AnswerSettings.extract`)."""
    kind, colon, argument = spec.partition(":")
    if not colon:
        require(
            spec in PLAIN_EXTRACTORS,
            f"unknown extractor {spec!r}; use one of {', '.join(PLAIN_EXTRACTORS)}, after:MARKER, "
            "verdict:QUESTION|WORD|WORD or regex:PATTERN",
        )
        return
    require(
        kind in ("after", "verdict", "regex"),
        f"unknown extractor {spec!r}; only after:, verdict: and regex: take an argument",
    )
    require(bool(argument.strip()), f"extractor {spec!r} has nothing after its colon")
    if kind == "verdict":
        question, *words = argument.split("|")
        require(bool(question.strip()) and len(set(words)) > 1, f"extractor {spec!r} needs a question and two words")
    if kind == "regex":
        try:
            groups = re.compile(argument).groups
        except re.error as error:
            raise ValueError(f"extractor {spec!r} is no regular expression: {error}") from error
        require(groups == 1, f"extractor {spec!r} must have exactly one group, it has {groups}")


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    r"""How answers are found in completions and gold answers, and how strictly they are compared.

    In YAML: `extract: [boxed, "after:A:", 'regex:ANSWER\s*=\s*(.+)']`
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    extract: list[str] = field(default_factory=lambda: list(DEFAULT_EXTRACT))
    r"""Extractors tried in order on a completion; the first that finds something wins.

    `final_answer`: X of "final answer is X. I hope it is correct"; `tagged`: X of `<answer>X</answer>`; `boxed`: the last
    `\boxed{}`; `stated`: what the text announces last (`Answer: X`, `The answer is X`, `Result: X`, `#### X`, `Option B`);
    `after:MARKER`: the line behind the last MARKER (any case); `regex:PATTERN`: the one group of the last match;
    `verdict:QUESTION|WORD|WORD`: which of the words follows QUESTION, which stands once behind the thought, and the word at the
    very end (a full stop aside);
    `conclusion`: the last sentences, if they state a result, left to Math-Verify to search; `last_number`; `whole`: all of
    the text. The last three are not used on a completion that was cut off at its token limit. What follows the thought
    decides; an answer inside it is only taken where nothing follows. What is no expression (prose, the last number), stands
    inside the thought, or may be cut off can only be correct or no answer, never wrong."""
    gold_extract: list[str] = field(default_factory=lambda: ["whole"])
    """The same for the gold answer; `whole` takes it as it is."""
    max_answer_chars: int = 2000
    """Anything longer is not an answer."""
    float_rounding: int = 6
    """Decimal places to which a comparison with a decimal number is rounded."""
    numeric_precision: int = 15
    """Digits of the numeric comparison of symbolic expressions."""
    strict_variables: bool = True
    """Names of variables matter: `f(x)` is not `f(y)`."""
    set_relations: bool = False
    """A relation may stand for a set in the prediction too: `-2 <= x <= 7` for a gold of `[-2, 7]`."""

    def __post_init__(self) -> None:
        for name in ("extract", "gold_extract"):
            specs = getattr(self, name)
            require(len(specs) > 0, f"{name} needs at least one extractor")
            for spec in specs:
                check_extractor(spec)
        for name in ("max_answer_chars", "float_rounding", "numeric_precision"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """The verification stage: who votes, how votes become a verdict, and what one comparison may cost."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    HOW: ClassVar[frozenset[str]] = frozenset({"processes", "cache_size", "batch_rows"})
    """Fields that change how the work is done, never a verdict; see `redi_ray.config.identity`."""
    LATER: ClassVar[frozenset[str]] = frozenset({"tests"})

    answers: AnswerSettings = field(default_factory=AnswerSettings)
    """Extraction and comparison."""
    votes: list[str] = field(default_factory=lambda: ["math_verify"])
    """Verifiers that count: `math_verify`, `judge` where the section below is set, and those whose votes came with the traces
    (`label`, or any other name that the data give)."""
    judge: JudgeSettings | None = None
    """A language model that casts the `judge` votes. It is asked once all traces are there: between rounds of sampling,
    Math-Verify alone says which problems are solved."""
    tests: CodeSettings | None = field(default_factory=CodeSettings)
    """How code is run where a problem has tests (`problems.source.columns.tests`): their vote, `tests`, then stands where
    `math_verify` does, and no judge is asked. Null: tests are left aside."""
    policy: Policy = "all"
    """How votes become the verdict; the table is in `redi_ray.text.verdicts`. Another one asks no judge again."""
    invert_labels: bool = False
    """The negative control: correct and wrong are swapped after the policy, so that training prefers what is wrong. A
    method that gains as much from these labels as from the true ones does not learn from them."""
    reuse_votes: bool = False
    """A `math_verify` or `judge` vote that came with a trace stands, and the verifier runs only where there is none (under
    policy `paper` Math-Verify not at all: a missing vote is part of its rule)."""
    timeout_seconds: float = 5.0
    """Processor time that one comparison may take; its process is killed after it and the verdict is `timeout`. How busy the
    machine is makes no difference."""
    memory_mb: int = 2048
    """Address space of one comparing process; beyond it the verdict is `error`."""
    processes: int = 1
    """Comparing processes per actor, and solutions that run at a time. They start when the first comparison needs one."""
    cache_size: int = 100_000
    """Verdicts an actor remembers by (gold, extracted answer); `timeout` and `error` only when they have come three times."""
    batch_rows: int = 2000
    """Rows of a shard held in memory at a time."""

    def __post_init__(self) -> None:
        require(len(self.votes) > 0, "votes needs at least one verifier")
        require(len(set(self.votes)) == len(self.votes), f"votes lists a verifier twice: {self.votes}")
        for name in self.votes:
            require(VERIFIER_NAME.fullmatch(name) is not None, f"votes: {name!r} is no verifier's name")
        if self.policy == "math_verify_only":
            require("math_verify" in self.votes, "policy math_verify_only needs math_verify among the votes")
        if self.judge is not None:
            self._check_judge(self.judge)
        require(self.timeout_seconds > 0, f"timeout_seconds must be > 0, got {self.timeout_seconds}")
        require(self.memory_mb >= 512, f"memory_mb must be >= 512 (sympy alone needs that), got {self.memory_mb}")
        for name in ("processes", "cache_size", "batch_rows"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")

    def _check_judge(self, judge: JudgeSettings) -> None:
        require("judge" in self.votes, "judge is set, but votes does not hold it: write votes: [math_verify, judge]")
        if judge.ask == "all":
            return
        require("math_verify" in self.votes, "judge.ask: not_correct needs math_verify among the votes")
        require(
            self.policy not in ("all", "paper"),
            f"policy {self.policy} needs the judge's vote on every trace: set judge.ask: all, or policy: any, both_false or "
            "drop_disagreement",
        )
        require(
            self.policy != "both_false" or self.votes[0] == "math_verify",
            "policy both_false with judge.ask: not_correct needs math_verify as the first of the votes",
        )

    @property
    def in_one_pass(self) -> bool:
        """Whether Math-Verify and votes that came with the traces decide at once; a judge and inversion come after them."""
        return self.judge is None and not self.invert_labels

    def first_pass(self) -> VerifySettings:
        """What is decided while traces are sampled: everything if that is one pass, else what Math-Verify says."""
        if self.in_one_pass:
            return self
        policy: Policy = "paper" if self.policy == "paper" else "math_verify_only"  # a missing vote stays missing there
        return replace(self, votes=["math_verify"], policy=policy, judge=None, invert_labels=False)
