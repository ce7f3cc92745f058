"""Settings of the stage `curate`: which problems and traces may be used, and which of them are.

The defaults are the paper's rule: nothing but the verdict decides which traces may be chosen and rejected, the first of
each is taken, and length limits apply after the choice. Every other block is off until its section is there; `{}` turns
it on with its own defaults, null turns it off.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from redi_ray.config.embedders import Embedder
from redi_ray.config.section import Strict

LANGUAGES = frozenset({
    "ace", "af", "am", "an", "ar", "ary", "arz", "as", "az", "ba", "bcl", "be", "bg", "bn", "br", "bs", "ca", "crh",
    "cs", "cy", "da", "de", "dz", "el", "en", "eo", "es", "et", "eu", "ext", "fa", "fi", "fo", "fr", "fuv", "fy", "ga",
    "gcf", "gcr", "gd", "gl", "gom", "grc", "gu", "gug", "guw", "ha", "hbo", "he", "hi", "hr", "ht", "hu", "hy", "id",
    "ig", "is", "it", "ja", "jv", "ka", "kab", "kik", "kk", "km", "kn", "ko", "ku", "ky", "la", "lb", "lg", "lij", "ln",
    "lo", "lt", "ltg", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "nso", "oc", "om",
    "or", "pa", "pcm", "pl", "ps", "pt", "qu", "ro", "ru", "rw", "sa", "sdh", "se", "si", "sk", "sl", "sn", "so", "sq",
    "sr", "st", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "ug", "uk", "ur", "uz", "uzs", "vec", "vi",
    "vo", "wa", "wuu", "xh", "yo", "yue", "zh", "zu", "zxx",
})  # fmt: skip
"""The codes that py3langid knows. Its model says them, too, but takes half a second to be read."""


class NearDuplicates(Strict):
    """Problems that differ in a few words, in punctuation, or in the order of their clauses.

    Candidates come from MinHash LSH, so that not all pairs are compared; the similarity of a candidate is then computed
    exactly. Similarity is the Jaccard index of two sets: all runs of one to `ngram` words, numbers and operators. Problems
    form a group if each is near to another of the group.
    """

    threshold: float = Field(0.55, gt=0, le=1)
    """Similarity from which on two problems are one. The default was found on GSM8K and MATH-500 (benchmarks/README.md)."""
    ngram: int = Field(2, ge=1, le=8)
    """Longest run. Longer ones are stricter, above all for short problems."""
    num_perm: int = Field(128, ge=16, le=512)
    """Hash functions of a MinHash: more find more candidates near the threshold and cost time and memory."""
    same_formulas: bool = True
    """Near-duplicates must have the same numbers, operators and LaTeX functions, and no contradicting numeric answers.
    `Factor x^2+5x+6` and `Factor x^2-5x+6` are alike in words, and two problems. False compares words alone."""


class SemanticDuplicates(Strict):
    """Problems that say the same in other words, by the embeddings of `curate.embedder`.

    In the order of the hashes of their ids, a problem goes if it is near enough to one that stays, and agrees with it; problems
    are compared within clusters, not all with all. The table `similar` shows the pairs on both sides of the threshold.
    """

    threshold: float = Field(0.8, gt=0, le=1)
    """Cosine from which on two problems are one. It belongs to an embedder: this one was found with all-MiniLM-L6-v2
    (benchmarks/README.md)."""
    agree: Literal["answer", "numbers", "nothing"] = "answer"
    """What two problems must have in common beside it, since embeddings tell other numbers badly. `answer`: reference answers
    that are numbers must be equal; where one is none, the numbers of the texts. `numbers`: those of the texts, in figures or
    words, whatever the answers. `nothing` goes by the cosine alone."""


class Duplicates(Strict):
    """Of problems that are the same, one stays: that with the smallest hash of its id, whatever the order of the shards.

    Only problems that would give an example take part, so that no solved problem makes way for an unsolved one.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"semantic"})
    """See `redi_ray.config.identity`."""

    exact: bool = True
    """Same text but for case, punctuation, white space and LaTeX's typesetting."""
    near: NearDuplicates | None = NearDuplicates()
    """Near-duplicates; null leaves them."""
    semantic: SemanticDuplicates | None = None
    """Semantic duplicates; null leaves them."""


class BenchmarkFile(Strict):
    """A file of problems to be kept out of training, besides the benchmarks of `evaluate`."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Shown where one of its problems is found."""
    path: str
    """JSON lines, JSON list or Parquet, the first two also gzipped; local or s3://."""
    column: str = "problem"
    """Column of the problem's text."""


class Contamination(Strict):
    """Removes problems that hold a benchmark's problem, whole or in large part.

    A shared run of words alone proves nothing: `where m and n are relatively prime positive integers` stands in dozens of
    contest problems. So what counts is how much of the *benchmark's* problem is found again: its words that lie in shared
    n-grams, where a word in an n-gram that k benchmark problems have in common counts as 1/k. The problem goes if they
    make up `share` of it and two n-grams at least, or, in short n-grams, `small_share` of it while every number of the
    benchmark's problem is there too. The second finds edited copies in which no long run is left. Benchmark problems of
    fewer words than an n-gram are compared as a whole.
    """

    benchmarks: bool = True
    """Compare with every benchmark of `evaluate.benchmarks`, all of its problems even where only some are evaluated, and
    with the problems held out for development."""
    files: list[BenchmarkFile] = []
    """More problems to compare with."""
    ngram: int = Field(8, ge=2)
    """Words of an n-gram."""
    share: float = Field(0.5, ge=0, le=1)
    """Share of the benchmark problem's words that must lie in shared n-grams. 0: one shared n-gram is enough, which also
    drops about one in ten clean contest problems."""
    small_ngram: int = Field(3, ge=2)
    """Words of the short n-grams."""
    small_share: float = Field(0.65, gt=0, le=1)
    """Share of the benchmark problem's words that must lie in shared short n-grams; 1 leaves nearly all to the other rule."""

    @model_validator(mode="after")
    def _ordered(self) -> Contamination:
        if self.small_ngram > self.ngram:
            raise ValueError(f"small_ngram {self.small_ngram} is longer than ngram {self.ngram}")
        if not self.benchmarks and not self.files:
            raise ValueError("there is nothing to compare with: set benchmarks: true, or name files")
        return self


class Language(Strict):
    """Drops problems in other languages, judged by their prose without formulas (py3langid, whose model is in the package)."""

    allow: list[str] = ["en"]
    """ISO 639-1 codes."""
    min_confidence: float = Field(0.5, gt=0, le=1)
    """A problem stays unless another language is at least so probable: many have too little prose to tell."""

    @field_validator("allow")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        if unknown := sorted(set(value) - LANGUAGES):
            raise ValueError(f"no known language: {', '.join(unknown)}; use ISO 639-1 codes such as en, zh, fr")
        if not value:
            raise ValueError("name at least one language, or nothing is left")
        return value


class Bucket(Strict):
    """A range of pass rates: above the bucket before, up to and including this bound."""

    up_to: float = Field(ge=0, le=1)
    """Upper bound."""
    max_problems: int | None = Field(None, ge=0)
    """Keep at most so many problems, those with the smallest hashes of their ids; null keeps all."""


class Difficulty(Strict):
    """Selects problems by pass rate: correct traces / traces whose verdict is correct, wrong or no_answer.

    The rates of all problems are written to the table `pass_rates` whatever is selected.
    """

    model: str | None = None
    """Whose traces count, by the column `model` (of the run's own models the name of their step); null counts all."""
    min_samples: int = Field(1, ge=1)
    """A problem with fewer traces that count is dropped: its rate is not known."""
    min_rate: float = Field(0.0, ge=0, le=1)
    """Lowest rate that stays."""
    max_rate: float = Field(1.0, ge=0, le=1)
    """Highest rate that stays."""
    buckets: list[Bucket] = []
    """Caps on the number of problems, by rising bounds, the last of which is 1. They apply after all else but token limits."""

    @model_validator(mode="after")
    def _ordered(self) -> Difficulty:
        if self.min_rate > self.max_rate:
            raise ValueError(f"min_rate {self.min_rate} is larger than max_rate {self.max_rate}")
        bounds = [bucket.up_to for bucket in self.buckets]
        if bounds and (bounds != sorted(set(bounds)) or bounds[-1] != 1):
            raise ValueError(f"the bounds `up_to` of the buckets must rise and end with 1, got {bounds}")
        return self


class Diversity(Strict):
    """Keeps so many problems, spread over all that are left behind every other block but the token limits, by the embeddings of
    `curate.embedder`. How spread they are, and as many by chance, is told in the manifest."""

    problems: int = Field(ge=1)
    """How many stay."""
    by: Literal["farthest", "clusters", "random"] = "clusters"
    """`farthest`: each is the farthest from those before it, which takes time for each problem kept and likes outliers.
    `clusters`: in turn from k-means clusters, the nearest to the centre first. `random`: the control."""


class TraceFormat(Strict):
    """What a complete trace looks like."""

    think: bool = True
    """`<think>` once and then `</think>` once. Only where the prompt's prefix opens it; elsewhere this asks for nothing."""
    one_box: bool = True
    r"""Exactly one `\boxed` after `</think>`, or in the whole trace where there is none."""


class Repetition(Strict):
    """How far zlib may compress a trace: text that repeats itself shrinks much more than reasoning does."""

    max_ratio: float = Field(8.0, gt=1)
    """Largest number of bytes per compressed byte, of the whole trace and of its end. Reasoning reaches 2 to 5; of 1,960
    correct traces of six models two came above 8, one of them cut off in a loop."""
    tail_chars: int = Field(4000, ge=200)
    """Characters of the end."""


class TraceRules(Strict):
    """Which traces of a side may be picked. A trace that may not is left out before the choice: the next takes its place."""

    truncated: bool = True
    """Whether traces that were cut off (`finish_reason` length, loop or unfinished) may be picked."""
    min_chars: int = Field(0, ge=0)
    """Shorter traces are left out."""
    max_chars: int | None = Field(None, ge=1)
    """Longer traces are left out."""
    format: TraceFormat | None = None
    """Asks for a complete format."""
    repetition: Repetition | None = None
    """Leaves out traces that repeat themselves."""


class ChosenRules(TraceRules):
    """The chosen side: correct traces."""

    pick: Literal["first", "last", "random", "shortest", "longest"] = "first"
    """Which one: by generation order (the paper: the first), by the seed, or by characters."""


class RejectedRules(TraceRules):
    """The rejected side: traces with one of `rejected_verdicts`."""

    pick: Literal["first", "random", "shortest", "longest", "most_frequent_wrong", "random_frequent_wrong"] = "first"
    """Which one; `most_frequent_wrong` takes the first trace with the answer that most of them give, then that with the
    next answer. `random_frequent_wrong` takes any with that answer, by the seed (cDPO)."""

    @property
    def by_answer(self) -> bool:
        """Whether the answers decide."""
        return self.pick.endswith("frequent_wrong")


class CurateConfig(Strict):
    """Positives and pairs from verified traces."""

    LATER: ClassVar[frozenset[str]] = frozenset({"diversity", "embedder"})
    HOW: ClassVar[frozenset[str]] = frozenset({"of"})
    """See `redi_ray.config.identity`; what comes of the traces themselves is in their key."""

    of: str = "verified"
    """The verified traces that the run's own positives and pairs are of: `verified`, or a step that comes of it, such as `grade`
    or `select`."""
    max_prompt_tokens: int = Field(800, ge=1)
    """Longer prompts are dropped (with the forced prefix, in the student's tokens)."""
    max_response_tokens: int = Field(19000, ge=1)
    """Longer traces are dropped after the choice, as in the paper: the next trace does not take their place."""
    rejected_verdicts: list[Literal["wrong", "no_answer", "timeout", "gold_unparseable", "error"]] = ["wrong"]
    """What may become a rejected trace."""
    chosen: ChosenRules = ChosenRules()
    """Which correct trace is chosen."""
    rejected: RejectedRules = RejectedRules()
    """Which other trace is rejected."""
    positives_per_problem: int = Field(1, ge=1)
    """Examples for SFT of one problem at the most, by the order of `chosen.pick`."""
    pairs_per_problem: int = Field(1, ge=1)
    """Pairs of one problem at the most, each another combination of a chosen and a rejected trace."""
    duplicates: Duplicates | None = None
    """Keeps one of equal problems."""
    contamination: Contamination | None = None
    """Removes problems of the benchmarks."""
    language: Language | None = None
    """Keeps problems in some languages."""
    difficulty: Difficulty | None = None
    """Keeps problems by how often they are solved."""
    diversity: Diversity | None = None
    """Keeps some problems that differ."""
    embedder: Embedder | None = None
    """What makes the embeddings that `duplicates.semantic` and `diversity` go by; null is `{name: words}`."""
    seed: int = 42
    """Order of the output, and the random choices."""

    @field_validator("rejected_verdicts")
    @classmethod
    def _some_verdict(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("name at least one verdict, or no pair can be made")
        return value

    @property
    def embeds(self) -> bool:
        """Whether a block goes by embeddings."""
        semantic = self.duplicates is not None and self.duplicates.semantic is not None
        return semantic or self.diversity is not None

    @model_validator(mode="after")
    def _embedder_is_used(self) -> CurateConfig:
        if self.embedder is not None and not self.embeds:
            raise ValueError("nothing reads embedder: set duplicates.semantic or diversity, or leave it out")
        return self
