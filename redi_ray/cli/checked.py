"""A config with everything that can be known to be wrong with it told at once: values, conflicts, steps, files, models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import ConfigError, draft_config, read_raw, unrelated
from redi_ray.errors import Gathered, listed
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of

Check: TypeAlias = Callable[[ExperimentConfig], object]
"""Raises UserError."""
CheckOfGraph: TypeAlias = Callable[[ExperimentConfig, Graph], object]
DECIDES_STEPS = {"problems", "generate", "redi", "steps", "repeat", "evaluate"}
"""Sections that say which steps there are."""


def checked_config(
    uri: str, overrides: list[str], *checks: Check, of_graph: CheckOfGraph | None = None
) -> ExperimentConfig:
    """The config in a YAML file, if neither its values nor its graph nor any of `checks` find fault with it.

    of_graph: asked where the graph is right. Raises what the only one to find fault has raised, or an error that lists all
    findings. Where values are wrong, the rest is looked at without them, and what may come of that is not told.
    """
    draft = draft_config(read_raw(uri, overrides), uri)
    later = Gathered()
    if draft.config is not None:
        _look(draft.config, checks, of_graph, later, knows_steps=not draft.broken & DECIDES_STEPS)
    if not draft.findings:
        later.raise_all(f"{uri}: {len(later.findings)} error(s)")
        assert draft.config is not None
        return draft.config
    found = [*draft.findings, *unrelated(later.findings, draft.broken)]
    raise listed(ConfigError, f"{uri}: {len(found)} error(s)", found)


def _look(
    config: ExperimentConfig,
    checks: tuple[Check, ...],
    of_graph: CheckOfGraph | None,
    later: Gathered,
    *,
    knows_steps: bool,
) -> None:
    """Keep in `later` what is found. knows_steps: whether the config says all of its steps, or the graph cannot be judged."""
    if knows_steps:
        with later():
            graph = graph_of(config)
            if of_graph is not None:
                of_graph(config, graph)
    for check in checks:
        with later():
            check(config)
    if not knows_steps:
        later.errors = [error for error in later.errors if not isinstance(error, GraphError)]
