"""A search that has been checked: its trials, each as a whole config. No Ray here, so mistakes are told before it starts."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.identity import identity
from redi_ray.config.load import ConfigError, parse_config, set_path
from redi_ray.config.search import DevEvaluation, Listed, NoScheduler, settable
from redi_ray.config.training import TrainSettings
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.rounds import last_round, written
from redi_ray.pipeline.standard import graph_of, train_keys
from redi_ray.search.sections import recipe_of, report_every, settings_of, unfit
from redi_ray.search.sharing import Sharing, places_of
from redi_ray.search.space import (
    Values,
    describe,
    drawn_points,
    grid_points,
    sample_values,
    settings_at,
    unknown_section,
)
from redi_ray.store import storage
from redi_ray.train.monitors import STEP_METRICS

VERSION = 1
"""Raise it when a trial's result changes its meaning."""
NOT_THE_TRIAL = ("name", "storage", "search", "resources")
"""Sections that decide no trial's result, but for the engine among the resources."""
DEV_ACCURACY, DEV_PASS_AT_1 = "dev_accuracy", "dev_pass@1"
PROBED_POINTS = 64
"""Points of an open-ended search that are tried on the config before it starts."""


@dataclass(frozen=True)
class Goal:
    """What is trained, and by what it is compared."""

    arm: str
    """A step of the graph that trains or merges: one of `redi.arms`, the first stage, or a named one."""
    metric: str
    dev: DevEvaluation = field(default_factory=DevEvaluation)
    """How `dev_pass@1` is measured."""

    @property
    def early_metric(self) -> str:
        """What is known while a trial trains, and so what schedulers look at."""
        return DEV_ACCURACY if self.metric == DEV_PASS_AT_1 else self.metric


@dataclass(frozen=True)
class TrialSpec:
    """One training of a search, before it has run."""

    number: int
    """Of the point, in the order of the space; 0 and up. An open-ended search counts as it goes."""
    values: Values
    seed: int | None
    """None: the config's own."""
    config: ExperimentConfig
    key: str
    """Hash of all that decides the trial's result."""

    @property
    def name(self) -> str:
        """Such as `alpha=0.8 learning_rate=1e-05 seed=1`."""
        return describe(self.values) + ("" if self.seed is None else f" seed={self.seed}")


class SearchPlan:
    """What a search trains and compares, and how a point becomes a trial.

    Raises ConfigError, which lists every finding, for a search that cannot work.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        if config.search is None:
            raise ConfigError(
                "search: this config has no such section, so there is nothing to tune; `redi-ray run` trains it as it is"
            )
        self.config, self.search, self.graph = config, config.search, graph_of(config)
        self.arm = self._find_arm()
        self.step = self.graph[self.arm]
        own, shared = train_keys(config, self.arm)
        self.own_section, self.section = ".".join(own), ".".join(shared)
        self.metric = self._find_metric()
        self.goal = Goal(self.arm, self.metric, config.search.dev)
        self._check_paths()
        self.points: list[dict[str, Any]] = self._find_points()
        """All, or for an open-ended search some that stand for them."""
        self._check_effects()
        self._check_metric()

    @property
    def open_ended(self) -> bool:
        """Whether points follow from the results of others, so that they are not known before."""
        return self.search.method == "optuna"

    @property
    def trains(self) -> bool:
        """Whether the goal is a training, and not a merge."""
        return recipe_of(self.step) is not None

    @property
    def seeds(self) -> list[int | None]:
        return list(self.search.seeds) or [None]

    @property
    def num_trials(self) -> int:
        points = self.search.num_trials if self.open_ended else len(self.points)
        assert points is not None
        return points * len(self.seeds)

    def trials(self) -> list[TrialSpec]:
        """All trials in the order in which they start: shuffled, so that whatever is there early covers the space."""
        order = random.Random(self.search.seed).sample(range(len(self.points)), len(self.points))
        return [self.trial(self.points[number], seed, number) for seed in self.seeds for number in order]

    def trial(self, values: Values, seed: int | None, number: int = 0) -> TrialSpec:
        """The trial at a point. Raises ConfigError if the config is not valid there."""
        config = self.configured(values, seed)
        return TrialSpec(number, dict(values), seed, config, self._key(config))

    def configured(self, values: Values, seed: int | None = None) -> ExperimentConfig:
        """The whole config at a point: what `redi-ray run` needs to train the very same model.

        Raises ConfigError or GraphError where there is none.
        """
        raw = self.config.model_dump(mode="json", by_alias=True)
        raw["search"] = None
        raw["storage"]["root"] = storage.resolve(self.config.storage.root)
        if self.search.trainer is not None:
            raw["redi"]["trainer"] = asdict(self.search.trainer)
        for path, value in settings_at(self.search.space, values).items():
            set_path(raw, path, value, where=f"search.space: {path}")
        where = describe(values)
        config = parse_config(raw, where)
        settings = settings_of(config, self.arm)
        if settings is None:
            return config
        mine = raw
        for key in train_keys(config, self.arm)[0]:
            mine = mine[key]
        if settings.guard.action == "warn":  # a trial that has collapsed has nothing more to say
            mine["guard"] = {**asdict(settings.guard), "action": "stop"}
        if seed is not None:
            mine["seed"] = seed
        return parse_config(raw, where)

    def _key(self, config: ExperimentConfig) -> str:
        told = {name: value for name, value in identity(config).items() if name not in NOT_THE_TRIAL}
        told["engine"] = identity(config.resources.engine)
        told["redi"] = {"arm": told["redi"]["arms"].get(self.arm), "train": told["redi"]["train"]}
        told["steps"], told["repeat"] = {}, None
        if any(written(step.name) in config.steps for step in graph_of(config).needed_for([self.arm])):
            told["steps"] = places_of(config, self.arm)[self.arm].key
        dev = self.search.dev.model_dump() if self.metric == DEV_PASS_AT_1 else None
        return storage.content_hash([VERSION, told, self.arm, self.metric, dev])[:16]

    @cached_property
    def sharing(self) -> Sharing:
        """Which steps the trials at the known points share."""
        return Sharing(self.arm, [places_of(self.configured(values), self.arm) for values in self.points])

    @property
    def shares_data(self) -> bool:
        """Whether all trials read what the steps before the goal have made for the first."""
        return not self.sharing.apart

    @property
    def one_at_a_time(self) -> bool:
        """Whether two trials could compute the same thing at the same time, or something larger than their own training: then
        none may run beside another.

        Known points are safe as long as only the goal itself varies: its data are made beforehand. A searcher may suggest
        points that need other data, or where all values are listed the very point that is being trained.
        """
        if not self.shares_data or not self.open_ended:
            return not self.shares_data
        listed = all(isinstance(domain, Listed) for domain in self.search.space.values())
        return listed or self.sharing.data_differ

    # ------------------------------------------------------------------------------------------------------ the checks

    def _find_arm(self) -> str:
        arms, wanted = list(self.config.redi.arms), self.search.arm
        models = [step.name for step in self.graph if step.kind in ("train", "merge")]
        if wanted is None:
            if len(arms) != 1 and "redi" not in arms:
                raise ConfigError(f"search.arm: name one of {', '.join(models)}")
            return arms[0] if len(arms) == 1 else "redi"
        if (found := last_round(self.config, wanted)) not in models:
            raise ConfigError(f"search.arm: no step {wanted!r} trains or merges a model; there are {', '.join(models)}")
        refuse(unfit(self.graph[found], self.search))
        return found

    def _find_metric(self) -> str:
        merges, on_cpu = not self.trains, self.config.resources.engine.device == "cpu"
        metric = self.search.metric or (DEV_ACCURACY if on_cpu and not merges else DEV_PASS_AT_1)
        known = (DEV_PASS_AT_1,) if merges else (DEV_ACCURACY, DEV_PASS_AT_1, *STEP_METRICS)
        if metric not in known:
            of = f", of a merge such as {self.arm}" if merges else ""
            raise ConfigError(f"search.metric: unknown metric {metric!r}; there are {', '.join(known)}{of}")
        return metric

    def _check_paths(self) -> None:
        raw = self.config.model_dump(mode="json", by_alias=True)
        paths = [path for name, domain in self.search.space.items() for path in settable(name, domain)]
        findings = [found for path in paths if (found := unknown_section(raw, path))]
        if self.search.seeds and (clash := [path for path in paths if path.endswith(".train.seed")]):
            findings.append(f"{clash[0]} varies the seed, and so does search.seeds; leave one of them out")
        if self.search.method == "optuna" and importlib.util.find_spec("optuna") is None:
            findings.append("searcher `optuna` needs a package that is missing: pip install redi_ray[optuna]")
        refuse(findings)

    def _find_points(self) -> list[dict[str, Any]]:
        space = self.search.space
        count = PROBED_POINTS if self.open_ended else self.search.num_trials
        points = list(grid_points(space) if count is None else drawn_points(space, count, self.search.seed))
        findings: dict[str, str] = {}
        for point in points:
            try:
                self.configured(point)
            except (ConfigError, GraphError) as error:
                for line in str(error).splitlines()[1:] or [str(error)]:
                    findings.setdefault(line.strip().removeprefix("- "), describe(point))
        refuse([f"{finding} (at {point})" for finding, point in findings.items()])
        return points

    def _check_effects(self) -> None:
        """A path that changes nothing would make equal trials: a section of another arm, or a value set again elsewhere."""
        findings = []
        for path, domain in self.search.space.items():
            found = []
            for value in sample_values(domain):
                try:
                    point = self.configured({**self.points[0], path: value})
                    found.append(places_of(point, self.arm)[self.arm].key)
                except (
                    ConfigError,
                    GraphError,
                ):  # valid only beside other values, and those combinations have been tried
                    continue
            if len(found) > 1 and len(set(found)) == 1:
                findings.append(
                    f"{path} changes nothing that {self.arm} is trained with: it belongs elsewhere, or {self.own_section} sets "
                    "it again"
                )
        refuse(findings)

    def _check_metric(self) -> None:
        known = [settings_of(self.configured(point), self.arm) for point in self.points]
        settings = [setting for setting in known if setting is not None]
        probed = all(setting.probe is not None for setting in settings)
        problems, findings = self.config.problems, []
        if self.metric == DEV_ACCURACY and not probed:
            findings.append(
                f"search.metric: {DEV_ACCURACY} is measured by the probe: set {self.section}.probe, such as {{every: 50}}"
            )
        if self.metric == DEV_PASS_AT_1 and not (getattr(problems.source, "num_dev", 0) or problems.dev.share):
            findings.append(f"search.metric: {DEV_PASS_AT_1} needs development problems: set problems.dev.share")
        if self.metric != DEV_PASS_AT_1:
            findings += self._check_exported(settings)
        if not isinstance(self.search.scheduler, NoScheduler):
            if self.goal.early_metric == DEV_ACCURACY and not probed:
                findings.append(
                    f"search.scheduler: it looks at what the probe measures on the way: set {self.section}.probe"
                )
            elif any(math.isinf(report_every(setting)) for setting in settings):
                findings.append(
                    f"search.scheduler: nothing is reported before a trial's end: set {self.section}.checkpoint_every"
                )
        refuse(findings)

    def _check_exported(self, settings: Sequence[TrainSettings]) -> list[str]:
        """A metric that is known while training must be that by which the exported checkpoint is chosen."""
        by = {str(setting.keep_best) for setting in settings if setting.export == "best"}
        if not by or (by == {self.metric} and self.search.mode == "max"):
            return []
        return [
            f"search.metric: {self.section}.export is best, which is the checkpoint with the highest {' or '.join(sorted(by))}, "
            f"but trials are compared by the {self.search.mode} of {self.metric}: set export to last, or keep_best and the "
            "metric to the same"
        ]


def refuse(findings: list[str]) -> None:
    """Raise ConfigError if there are any."""
    if findings:
        raise ConfigError("search:\n" + "\n".join(f"  - {finding}" for finding in findings))
