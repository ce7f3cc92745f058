"""What steps ask of what they take beyond its type, as far as a graph and the first rows of a set tell it: columns of the same
samples, and what objectives learn from. The rest is told by the sequences (`redi_ray.train.requirements`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from redi_ray.config.objectives import BY_UNIT, IMITATING, REWARDED, UNPAIRED
from redi_ray.pipeline.graph import Graph, GraphError, Step
from redi_ray.pipeline.kinds.groups import BY, WEIGHTS

if TYPE_CHECKING:
    from redi_ray.data.sources.shapes import Layout

COLUMNS = ("at", "column", "to")
"""What steps call columns of their samples: the first step of a rectification, questions about steps, a comparison."""
SAME_SAMPLES = ("verify", "score", "locate", "contrast")
"""Kinds that say something of the samples they take."""
MEND = "learn from a step `groups`, which makes groups with rewards of verified samples, or from imported samples with rewards"


def require_asked(graph: Graph) -> None:
    """Raise GraphError for groups with columns of other samples, and for trainings that ask for what their data never have."""
    found = [line for step in graph for line in _foreign_columns(graph, step)]
    found += [line for step in graph if step.kind == "train" for line in _misfits(graph, step)]
    if found:
        raise GraphError("the steps do not fit together:\n" + "\n".join(f"  {line}" for line in found))


def _foreign_columns(graph: Graph, step: Step) -> Iterator[str]:
    for role, column in step.inputs.items():
        beside = role.startswith(BY) or role in (WEIGHTS, *COLUMNS)
        if (
            beside
            and graph[column].gives == "column"
            and samples_of(graph, column) != samples_of(graph, step.inputs["of"])
        ):
            said = step.wording.words.get(role, role)
            here, of = f"{step.wording.step or step.name}: `{said}: {column}`", graph[column].inputs["of"]
            yield f"{here} is a column of {of}, which has other samples than {step.inputs['of']}: make one of those"


def samples_of(graph: Graph, name: str) -> str:
    """The step whose samples these are, with verdicts or without, or what is said of them."""
    step = graph[name]
    return samples_of(graph, step.inputs["of"]) if step.kind in SAME_SAMPLES else name


def _misfits(graph: Graph, step: Step) -> Iterator[str]:
    name, settings, source = step.settings.objective.name, step.settings.settings, graph[step.inputs["groups"]]
    if name in REWARDED and source.kind == "pairs":
        on = source.inputs["of"] if source.wording.step else source.name
        yield f"{step.name}: {name} learns from rewards, and pairs of {on} have none: {MEND}"
    if settings.units == "spans" and (source.kind != "groups" or source.settings.spans is None):
        yield (
            f"{step.name}: `units: spans` makes a score of each span, and {source.name} has none: name a column of spans in a "
            "step `groups` (`spans: COLUMN`), or leave `units` out"
        )
    elif settings.units != "sequence" and name not in BY_UNIT:
        yield (
            f"{step.name}: {name} has one score per sequence, and `units: {settings.units}` makes several; leave `units` out, "
            f"or take one of {', '.join(sorted(BY_UNIT))}"
        )


def import_misfit(objective: str, layout: Layout) -> str | None:
    """Why an objective cannot learn from a set that is read so, or None."""
    from redi_ray.data.sources.shapes import NOUNS  # loads much, which a graph does without

    shape, noun = layout.shape, NOUNS[layout.shape]
    if (
        objective in REWARDED
        and shape != "rollouts"
        and not {"score_chosen", "score_rejected"} <= layout.columns.keys()
    ):
        column = "columns.score_chosen and columns.score_rejected" if shape == "preference" else "columns.reward"
        return f"{objective} learns from rewards, and {noun} has none as it is read ({layout}); name them as {column}"
    if objective not in IMITATING | UNPAIRED and shape in ("sft", "unpaired"):
        fits = "sft" if shape == "sft" else "kto"
        return f"{objective} learns from pairs, and {noun} has none ({layout}); take {fits}, or a set with both sides"
    return None
