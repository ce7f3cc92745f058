"""Settings of the evaluation, as plain frozen dataclasses like those of `redi_ray.config.training`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from redi_ray.config.benchmarks import BENCHMARKS, WORLD
from redi_ray.config.guided import GuidedSettings
from redi_ray.config.scorers import Scorer
from redi_ray.config.strict import STRICT, require, told_together
from redi_ray.config.tools import ToolSettings


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """One benchmark: where its problems are and how many of them are used."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    """One of `redi_ray.config.benchmarks.BENCHMARKS`, or a name of your own together with `path`."""
    path: str | None = None
    """A local or s3:// file instead of the hub: JSON list, JSON Lines or Parquet, the first two also packed."""
    problem_column: str | None = None
    """Column of the problem's text, where it is not one of the usual names."""
    answer_column: str | None = None
    """Column of the reference answer, where it is not one of the usual names."""
    max_problems: int | None = None
    """Use this many problems, chosen at random with `subset_seed` and kept in their order; their ids do not change."""
    subset_seed: int = 0
    """Chooses the problems under `max_problems`."""
    num_samples: int | None = None
    """Samples a problem on this benchmark, instead of the evaluation's `num_samples`."""

    @told_together
    def __post_init__(self) -> None:
        require(
            self.name in BENCHMARKS or self.path is not None,
            f"unknown benchmark {self.name!r}: give a path, or one of {', '.join(BENCHMARKS)}",
        )
        require(
            bool(self.name) and all(c.isalnum() or c in "_-." for c in self.name),
            f"a benchmark's name is made of letters, digits, _ - and . only, got {self.name!r}",
        )
        require(
            self.max_problems is None or self.max_problems >= 1, f"max_problems must be >= 1, got {self.max_problems}"
        )
        require(self.num_samples is None or self.num_samples >= 1, f"num_samples must be >= 1, got {self.num_samples}")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How models are sampled and scored. The defaults are the paper's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    HOW: ClassVar[frozenset[str]] = frozenset({"models"})
    """Fields that change no model's scores; see `redi_ray.config.identity`."""
    LATER: ClassVar[frozenset[str]] = frozenset({"score", "rank_by", "judge_on", "guided"})

    benchmarks: list[BenchmarkSettings] = field(default_factory=lambda: [BenchmarkSettings(name=WORLD)])
    """What is evaluated; names must differ. Where problems are not those of the built-in world, the default is none."""
    models: list[str] | None = None
    """Which models are evaluated; null takes all of the graph."""
    num_samples: int = 16
    """Samples a problem."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.95
    """Nucleus sampling."""
    max_tokens: int = 32768
    """Longest completion in tokens; what reaches it counts as truncated."""
    ks: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """The k of pass@k. Those above a benchmark's number of samples are left out there."""
    ddof: int = 0
    """Of the standard deviation in the SEM: 0 as in the paper's code, 1 for the unbiased variance."""
    seed: int = 0
    """Sampling seed, and that of the bootstrap intervals."""
    tools: ToolSettings | None = None
    """Tools that models may call, as `generate.tools`."""
    score: Scorer | None = None
    """A scorer of a step `score` that gives each sample a number: its mean stands beside pass@1, with SEM, interval and
    difference from the control."""
    rank_by: Scorer | None = None
    """A scorer whose number chooses among k samples, such as a reward model: the best of k, and the majority of k with votes
    weighted by it, beside pass@k and the plain majority of as many."""
    guided: GuidedSettings | None = None
    """A search beside the samples: answers grow step by step, and those go on whose steps a judge or a reward model finds
    best."""
    judge_on: dict[str, str] = field(default_factory=dict)
    """Name of a benchmark of its own -> a step `import` with `judge`: models are asked its questions, and beside accuracy stands
    how far their answers agree with the scores (kappa, correlation)."""

    @property
    def any_problems(self) -> bool:
        """Whether there is something to evaluate on."""
        return bool(self.benchmarks or self.judge_on)

    @told_together
    def __post_init__(self) -> None:
        names = [*(benchmark.name for benchmark in self.benchmarks), *self.judge_on]
        require(len(set(names)) == len(names), f"benchmarks must have different names, got {names}")
        require(self.num_samples >= 1, f"num_samples must be >= 1, got {self.num_samples}")
        require(self.tools is None or not self.tools.native, "tools.native is for endpoints; models are loaded here")
        require(self.temperature >= 0, f"temperature must be >= 0, got {self.temperature}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        require(self.max_tokens >= 1, f"max_tokens must be >= 1, got {self.max_tokens}")
        require(all(k >= 1 for k in self.ks), f"ks must be >= 1, got {self.ks}")
        for name in ("score", "rank_by"):
            scorer = getattr(self, name)
            fits = scorer is None or scorer.grain == "row"
            require(fits, f"{name} needs a number for each sample, and this scorer speaks of parts of them")
            others = scorer is not None and scorer.name != "reward" and bool(scorer.taken)
            require(
                not others,
                f"{name}: scorers that read other steps are for steps `score`; an evaluation takes the others",
            )
        if self.guided is not None:
            require(self.tools is None, "guided: answers with tools do not grow step by step; leave one of the two out")
            require(
                self.temperature > 0,
                "guided: at temperature 0 all next steps are the same one; set `temperature` above 0",
            )
            require(bool(self.benchmarks), "guided: there is no benchmark to search answers of; name one")
        require(self.ddof in (0, 1), f"ddof must be 0 or 1, got {self.ddof}")
