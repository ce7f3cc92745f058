"""Which steps of the graph trials share: those whose keys are equal. Nothing is made to know it, and Ray is not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.kinds.kind import Places
from redi_ray.pipeline.runner import run_of
from redi_ray.pipeline.standard import graph_of
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Stage


def places_of(config: ExperimentConfig, name: str) -> dict[str, Stage]:
    """Where the outputs of a step, and of all that it comes from, will lie: step -> place with its key, in order.

    Raises GraphError, ConfigError, and what a file raises that cannot be read.
    """
    run, found = Run.of(config, in_force=False), dict[str, Stage]()
    for step in graph_of(config).needed_for([name]):
        here, inputs = run_of(run, step), {role: found[of] for role, of in step.inputs.items()}
        found[step.name] = KINDS[step.kind].place(here, step, inputs) or _stand_in(here, step, inputs)
    return found


def _stand_in(run: Run, step: Step, inputs: Places) -> Stage:
    """For a place that is known when it is made: under a key that differs at least where the true one would."""
    read = {"settings": step.settings, "problems": run.config.problems, "benchmarks": run.config.evaluate.benchmarks}
    return run.stage(step.name, read, inputs)


@dataclass(frozen=True)
class Sharing:
    """The steps before the goal, over all trials."""

    goal: str
    trials: Sequence[dict[str, Stage]]
    """Of each, the places of the goal and of all that it comes from."""

    @cached_property
    def common(self) -> set[str]:
        """Steps whose output is the same for every trial."""
        of = {name: [trial[name].key if name in trial else None for trial in self.trials] for name in self._before}
        return {name for name, keys in of.items() if len(set(keys)) == 1}

    @cached_property
    def apart(self) -> set[str]:
        """The other steps before the goal: some trials have their own."""
        return self._before - self.common

    @cached_property
    def keys(self) -> set[str]:
        """Of outputs that several trials read, or the only one."""
        counts = Counter(place.key for trial in self.trials for name, place in trial.items() if name != self.goal)
        return {key for key, count in counts.items() if count > 1 or len(self.trials) == 1}

    @cached_property
    def data_differ(self) -> bool:
        """Whether the goal itself first makes something of its inputs, tokens or log-probs, that is not the same for all."""
        return len({str(sorted(trial[self.goal].inputs.items())) for trial in self.trials}) > 1

    @property
    def _before(self) -> set[str]:
        return {name for trial in self.trials for name in trial} - {self.goal}
