"""A search that has been checked: its trials, each as a whole config. No Ray here, so mistakes are told before it starts."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.identity import identity
from redi_ray.config.load import ConfigError, parse_config, set_path
from redi_ray.config.search import Choice, DevEvaluation, Grid, NoScheduler
from redi_ray.config.training import TrainSettings
from redi_ray.search.sections import (
    all_of_training,
    before_training,
    data_of_training,
    differ,
    report_every,
    train_settings,
)
from redi_ray.search.space import Values, describe, drawn_points, grid_points, sample_values
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
    """One of `redi.arms`, or `sft`."""
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
        self.config, self.search = config, config.search
        self.arm = self._find_arm()
        self.section = "sft.train" if self.arm == "sft" else "redi.train"
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
        """The whole config at a point: what `redi-ray run` needs to train the very same model."""
        raw = self.config.model_dump(mode="json")
        raw["search"] = None
        raw["storage"]["root"] = storage.resolve(self.config.storage.root)
        if self.search.trainer is not None:
            raw["redi"]["trainer"] = asdict(self.search.trainer)
        for path, value in values.items():
            set_path(raw, path, value, where=f"search.space: {path}")
        where = describe(values)
        guard = train_settings(parse_config(raw, where), self.arm).guard
        mine = raw["sft"]["train"] if self.arm == "sft" else raw["redi"]["arms"][self.arm]["train"]
        if guard.action == "warn":  # a trial that has collapsed has nothing more to say
            mine["guard"] = {**asdict(guard), "action": "stop"}
        if seed is not None:
            mine["seed"] = seed
        return parse_config(raw, where)

    def _key(self, config: ExperimentConfig) -> str:
        told = {name: value for name, value in identity(config).items() if name not in NOT_THE_TRIAL}
        told["engine"] = identity(config.resources.engine)
        told["redi"] = {"arm": told["redi"]["arms"].get(self.arm), "train": told["redi"]["train"]}
        dev = self.search.dev.model_dump() if self.metric == DEV_PASS_AT_1 else None
        return storage.content_hash([VERSION, told, self.arm, self.metric, dev])[:16]

    @property
    def shares_data(self) -> bool:
        """Whether all trials read what the stages before their training have made for the first."""
        return not differ(before_training(self.configured(values), self.arm) for values in self.points)

    @property
    def one_at_a_time(self) -> bool:
        """Whether two trials could compute the same thing at the same time: then none may run beside another.

        Known points are safe as long as only the arm's own section varies: their data are made beforehand. A searcher may
        suggest points that need other data, or where all values are listed the very point that is being trained.
        """
        if not self.shares_data or not self.open_ended:
            return not self.shares_data
        listed = all(isinstance(domain, Grid | Choice) for domain in self.search.space.values())
        return listed or differ(data_of_training(self.configured(values), self.arm) for values in self.points)

    # ------------------------------------------------------------------------------------------------------ the checks

    def _find_arm(self) -> str:
        arms, wanted = list(self.config.redi.arms), self.search.arm
        if wanted is None:
            if len(arms) > 1 and "redi" not in arms:
                raise ConfigError(f"search.arm: name one of {', '.join(arms)}, or sft")
            return arms[0] if len(arms) == 1 else "redi"
        if wanted not in (*arms, "sft"):
            raise ConfigError(f"search.arm: no arm {wanted!r}; there are {', '.join(arms)}, and sft")
        if wanted == "sft" and self.search.trainer is not None:
            raise ConfigError("search.trainer is for the arms of stage 2; for sft set resources.trainer")
        return wanted

    def _find_metric(self) -> str:
        on_cpu = self.config.resources.engine.device == "cpu"
        metric = self.search.metric or (DEV_ACCURACY if on_cpu else DEV_PASS_AT_1)
        known = (DEV_ACCURACY, DEV_PASS_AT_1, *STEP_METRICS)
        if metric not in known:
            raise ConfigError(f"search.metric: unknown metric {metric!r}; there are {', '.join(known)}")
        return metric

    def _check_paths(self) -> None:
        raw = self.config.model_dump(mode="json")
        findings = [found for path in self.search.space if (found := unknown_section(raw, path))]
        if self.search.seeds and (clash := [path for path in self.search.space if path.endswith(".train.seed")]):
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
            except ConfigError as error:
                for line in str(error).splitlines()[1:]:
                    findings.setdefault(line.removeprefix("  - "), describe(point))
        refuse([f"{finding} (at {point})" for finding, point in findings.items()])
        return points

    def _check_effects(self) -> None:
        """A path that changes nothing would make equal trials: a section of another arm, or a value set again elsewhere."""
        findings = []
        for path, domain in self.search.space.items():
            found = []
            for value in sample_values(domain):
                try:
                    found.append(all_of_training(self.configured({**self.points[0], path: value}), self.arm))
                except ConfigError:  # valid only beside other values, and those combinations have been tried
                    continue
            if len(found) > 1 and not differ(found):
                again = "sft.train" if self.arm == "sft" else f"redi.arms.{self.arm}.train"
                findings.append(
                    f"{path} changes nothing that {self.arm} is trained with: it belongs elsewhere, or {again} sets it again"
                )
        refuse(findings)

    def _check_metric(self) -> None:
        settings = [train_settings(self.configured(point), self.arm) for point in self.points]
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


def unknown_section(raw: Mapping[str, Any], path: str) -> str | None:
    """What is wrong with a path whose sections are not all in the resolved config; its last part is left to validation.

    An override may make a new section; a search must not, or a slip of the pen would tune an arm that nobody trains.
    """
    parts = path.split(".")
    if len(parts) == 1:
        return f"{path}: a whole section or a name cannot be searched; write a dotted path"
    node: Any = raw
    for depth, part in enumerate(parts[:-1]):
        at = ".".join(parts[:depth]) or "the config"
        if not isinstance(node, Mapping):
            return (
                f"{path}: {at} is {'null; give it in the config first' if node is None else 'a value, not a section'}"
            )
        if part not in node:
            return f"{path}: no section {part!r}; {at} has {', '.join(node)}"
        node = node[part]
    if not isinstance(node, Mapping):
        at = ".".join(parts[:-1])
        return f"{path}: {at} is {'null; give it in the config first' if node is None else 'a value, not a section'}"
    return None
