"""What objectives ask of the data that they learn from, as far as a graph and the first rows of a set tell it: before anything
starts. The rest is told by the sequences (`redi_ray.train.requirements`)."""

from __future__ import annotations

from collections.abc import Iterator

from redi_ray.config.objectives import BY_UNIT, IMITATING, REWARDED, UNPAIRED
from redi_ray.data.sources.shapes import NOUNS, Layout
from redi_ray.pipeline.graph import Graph, GraphError, Step

MEND = "learn from a step `groups`, which makes groups with rewards of verified samples, or from imported samples with rewards"


def require_asked(graph: Graph) -> None:
    """Raise GraphError for trainings that ask for what their data never have."""
    if found := [line for step in graph if step.kind == "train" for line in _misfits(graph, step)]:
        raise GraphError("the steps do not fit together:\n" + "\n".join(f"  {line}" for line in found))


def _misfits(graph: Graph, step: Step) -> Iterator[str]:
    name, settings, source = step.settings.objective.name, step.settings.settings, graph[step.inputs["groups"]]
    if name in REWARDED and source.kind == "pairs":
        on = source.inputs["of"] if source.wording.step else source.name
        yield f"{step.name}: {name} learns from rewards, and pairs of {on} have none: {MEND}"
    if settings.units != "sequence" and name not in BY_UNIT:
        yield (
            f"{step.name}: {name} has one score per sequence, and `units: {settings.units}` makes several; leave `units` out, "
            f"or take one of {', '.join(sorted(BY_UNIT))}"
        )


def import_misfit(objective: str, layout: Layout) -> str | None:
    """Why an objective cannot learn from a set that is read so, or None."""
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
