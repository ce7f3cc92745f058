"""How many sequences of which lengths a config's own line makes, under the plan's assumptions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from redi_ray.config.data import ImportTraces, NoTraces, SampledTraces
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.tools import ToolSettings
from redi_ray.config.training import TrainSettings
from redi_ray.config.worlds import ToolArithmeticSource
from redi_ray.plan.assumptions import OWN, Assumptions
from redi_ray.plan.lengths import cut_at, dropped_above, lognormal_shape
from redi_ray.plan.sample import DataSample
from redi_ray.stages.training import Recipe


@dataclass(frozen=True)
class Side:
    """Sequences of one kind: prompt and completion."""

    prompt: float
    """Tokens on the average."""
    completions: np.ndarray
    """`[n]` a distribution of tokens."""
    each: float = 1.0
    """Of them in a group, on the average."""
    between: float = 0.0
    """Tokens between the model's own turns, which are read and not scored."""

    @property
    def lengths(self) -> np.ndarray:
        """`[n]` prompt and completion, with what stands between its turns."""
        return self.prompt + self.between + self.completions

    @property
    def scored(self) -> float:
        """Completion tokens on the average."""
        return float(self.completions.mean())

    @property
    def tokens(self) -> float:
        """All tokens on the average."""
        return float(self.lengths.mean())

    def within(self, longest: int) -> Side:
        """Cut as a training's `max_length` does."""
        return replace(self, completions=cut_at(self.completions, max(1.0, longest - self.prompt - self.between)))


@dataclass(frozen=True)
class Workload:
    """Counts and lengths, each computed from the assumptions when it is asked for."""

    config: ExperimentConfig
    """With the sections of the steps that the traces have come through."""
    sample: DataSample
    assume: Assumptions
    own: bool = False
    """Whether a named step samples the traces from a model of the run: what the data at hand say is not said of those."""
    selections: int = 0
    """How often only the problems of wanted pass rates were kept."""

    @property
    def problems(self) -> float:
        """After the development split is held out, `max_problems`, and selections."""
        most = self.config.problems.max_problems
        left = self.assume["problems"] * (1 - self.config.problems.dev.share)
        left = left if most is None else min(left, most)
        return left * self.assume["selected_share"] ** self.selections if self.selections else left

    def share(self, name: str) -> float:
        """One of the shares `solved`, `paired` and `correct`, of these traces."""
        return self.assume[f"{OWN}{name}_share" if self.own else f"{name}_share"]

    @property
    def positives(self) -> int:
        return round(self.problems * self.share("solved") * self.config.curate.positives_per_problem)

    @property
    def pairs(self) -> int:
        return round(self.problems * self.share("paired") * self.config.curate.pairs_per_problem)

    @property
    def groups(self) -> int:
        """Of a training that reads groups of any form."""
        return self.pairs

    @property
    def traces(self) -> float:
        """All traces; sampled rounds go on with the problems that have no correct one yet, fewer by the same factor a round."""
        generate = self.config.generate
        if isinstance(generate, NoTraces):
            return 0.0
        if isinstance(generate, ImportTraces):
            return self.problems * self.assume["traces_per_problem"]
        if generate.frontier is not None:  # at the most: sampling ends where nothing promises further pairs
            later = (generate.max_rounds - 1) * generate.frontier.samples
            return self.problems * (generate.samples_per_round + later)
        asked = float(generate.max_rounds)
        if generate.max_rounds > 1:
            left = (1 - self.share("solved")) ** (1 / generate.max_rounds)
            asked = sum(left**number for number in range(generate.max_rounds))
        return self.problems * generate.samples_per_round * asked

    @property
    def prompt(self) -> float:
        return min(self.assume["prompt_tokens"], self.config.curate.max_prompt_tokens)

    def _drawn(self, form: np.ndarray | None, mean: float) -> np.ndarray:
        form = lognormal_shape(self.assume["length_spread"]) if form is None else form
        lengths = form * mean
        generate = self.config.generate
        return cut_at(lengths, generate.max_tokens) if isinstance(generate, SampledTraces) else lengths

    @property
    def _mean(self) -> float:
        """Of correct traces; what a student writes is as long as its answers in evaluation."""
        return self.assume["completion_tokens"] * (self.assume["eval_ratio"] if self.own else 1.0)

    @property
    def correct(self) -> np.ndarray:
        """Lengths of correct traces, before curation."""
        return self._drawn(self.sample.chosen, self._mean)

    @property
    def wrong(self) -> np.ndarray:
        """Lengths of wrong traces, before curation."""
        return self._drawn(self.sample.rejected, self._mean * self.assume["rejected_ratio"])

    @property
    def trace_tokens(self) -> float:
        """Mean over all traces."""
        share = self.share("correct")
        return float(share * self.correct.mean() + (1 - share) * self.wrong.mean())

    @property
    def chosen(self) -> Side:
        return self._sequences(self.correct)

    @property
    def rejected(self) -> Side:
        return self._sequences(self.wrong)

    def _sequences(self, lengths: np.ndarray) -> Side:
        generate, world = self.config.generate, isinstance(self.config.problems.source, ToolArithmeticSource)
        tools = generate.tools if isinstance(generate, SampledTraces) else None
        _, between = turns_with(tools, self.assume) if tools is not None or world else (1.0, 0.0)
        return Side(self.prompt, dropped_above(lengths, self.config.curate.max_response_tokens), between=between)

    @property
    def members(self) -> list[Side]:
        """Of a group of any form; of traces that are not sampled yet, one right and one wrong one."""
        return [self.chosen, self.rejected]

    def answers(self) -> np.ndarray:
        """Lengths of answers in evaluation."""
        mean = self.assume["completion_tokens"] * self.assume["eval_ratio"]
        form = lognormal_shape(self.assume["length_spread"]) if self.sample.chosen is None else self.sample.chosen
        return cut_at(form * mean, self.config.evaluate.max_tokens)


@dataclass(frozen=True)
class BegunWorkload(Workload):
    """Of what a step makes of another's output."""

    begun: Workload | None = None
    """What it is made of."""

    @property
    def _of(self) -> Workload:
        assert self.begun is not None
        return self.begun


def turns_with(tools: ToolSettings | None, assume: Assumptions) -> tuple[float, float]:
    """The model's own turns of a trace with tools, and the tokens of all that these answer."""
    turns = assume["turns"] if tools is None else min(assume["turns"], float(tools.max_turns))
    return max(1.0, turns), max(0.0, turns - 1) * assume["tool_tokens"]


def groups_read(work: Workload, recipe: Recipe) -> int:
    """Groups that a training learns from: examples, pairs, or samples of any number."""
    return {"groups": work.groups, "pairs": work.pairs, "examples": work.positives}[recipe.reads]


def sides_of(work: Workload, recipe: Recipe) -> list[Side]:
    """What a group is made of as it is tokenised: a chosen side alone, both, or as many of each as its samples."""
    if recipe.reads == "groups":
        return work.members
    return [work.chosen, work.rejected] if recipe.reads == "pairs" else [work.chosen]


def groups_trained(groups: int, settings: TrainSettings) -> int:
    """Groups that all steps read, those of later epochs again."""
    trained = groups * settings.epochs
    return trained if settings.max_steps is None else min(trained, settings.max_steps * settings.batch_size)
