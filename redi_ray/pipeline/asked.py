"""What steps ask of what they take beyond its type, as far as a graph and the first rows of a set tell it: columns of the same
samples, and what objectives learn from. The rest is told by the sequences (`redi_ray.train.requirements`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from redi_ray.config.data import Generate, VllmTraces
from redi_ray.config.objectives import BY_UNIT, IMITATING, REWARDED, SAMPLED, UNPAIRED
from redi_ray.config.reward_objectives import VALUED
from redi_ray.config.scorer_base import REWARD, RIGHT
from redi_ray.config.steps import BY_COLUMN
from redi_ray.eval.scoring import RANK, SCORE
from redi_ray.pipeline.graph import Graph, GraphError, Step
from redi_ray.pipeline.kinds.groups import BY, TOKENS, WEIGHTS
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.pipeline.kinds.pose import GUIDES
from redi_ray.stages.guided import GUIDE

if TYPE_CHECKING:
    from redi_ray.data.sources.shapes import Layout

SAMPLER = "sampler_logps"
"""The token column of the sampler's log-probs, as objectives call it."""
REWARD_MEAN = "reward_mean"
"""That of a token reward model's running means."""
AT = "at"
"""What the first step of a rectification, and questions about steps, call their column."""
SAME_SAMPLES = ("verify", "score", "locate", "contrast", "logps", "token_starts")
"""Kinds that say something of the samples they take, or begin with some of them."""
MEND = "learn from a step `groups`, which makes groups with rewards of verified samples, or from imported samples with rewards"


def require_asked(graph: Graph, generate: Generate) -> None:
    """Raise GraphError for groups with columns of other samples or of another sampler, for log-probs that nobody has stored, and
    for trainings that ask for what their data never have. generate: the config's section."""
    found = [line for step in graph for line in (*_foreign_columns(graph, step), *_other_samplers(graph, step))]
    found += [line for step in graph for line in _nothing_stored(graph, step, generate)]
    found += [line for step in graph for line in (*_other_checks(graph, step), *_other_posed(graph, step))]
    found += [line for step in graph if step.kind == "train" for line in _misfits(graph, step)]
    found += [line for step in graph for line in _wrong_heads(graph, step)]
    if found:
        raise GraphError("the steps do not fit together:\n" + "\n".join(f"  {line}" for line in found))


def _foreign_columns(graph: Graph, step: Step) -> Iterator[str]:
    for role, column in step.inputs.items():
        beside = (
            role.startswith((BY, TOKENS))
            or role in (WEIGHTS, AT, BY_COLUMN)
            or (step.kind in ("critical", "compare", "check") and role in ("column", "to"))
        )
        if beside and samples_of(graph, column) != samples_of(graph, step.inputs["of"]):
            said = step.wording.words.get(role, role)
            here, of = f"{step.wording.step or step.name}: `{said}: {column}`", graph[column].inputs["of"]
            yield f"{here} is a column of {of}, which has other samples than {step.inputs['of']}: make one of those"


def is_reward(step: Step) -> bool:
    """Whether a step trains a reward model."""
    return step.kind == "train" and step.settings.objective.name in VALUED


def _wrong_heads(graph: Graph, step: Step) -> Iterator[str]:
    """Reward models where a language model is asked for, and the other way round."""
    goes_on = is_reward(step)  # with the head of another one, or a new one
    for role, name in step.inputs.items():
        reward = name in graph.steps and is_reward(graph[name])
        here = f"{step.wording.step or step.name}: `{step.wording.words.get(role, role)}: {name}`"
        asks = role in (REWARD, SCORE, RANK, GUIDE)
        if asks and not reward:
            fitting = [other.name for other in graph if is_reward(other)]
            yield (
                f"{here} is a language model, and a reward model is asked there, which an objective on values trains "
                f"({', '.join(sorted(VALUED))}); what would fit: {', '.join(fitting) or 'nothing'}"
            )
        elif reward and not asks and not (goes_on and role == "start"):
            yield (
                f"{here} is a reward model ({graph[name].settings.objective.name}), which says no text: it is for a step `score` "
                "with the scorer `reward`, and for `evaluate.rank_by` and `evaluate.guided`"
            )


def _other_samplers(graph: Graph, step: Step) -> Iterator[str]:
    """Log-probs that are to be the sampler's, and are another model's."""
    column = graph[step.inputs[TOKENS + SAMPLER]] if TOKENS + SAMPLER in step.inputs else None
    if column is None:
        return
    if column.kind != "logps" or step.settings.token_columns[SAMPLER].use != "value":
        yield (
            f"{step.name}: `token_columns.{SAMPLER}: {column.name}` holds no log-probs as they are: take a column of a step "
            "`logps`, with `use: value`"
        )
        return
    samples = column
    while "of" in samples.inputs:
        samples = graph[samples.inputs["of"]]
    sampler, scored = samples.inputs.get("model"), column.inputs.get("model")
    if sampler is not None and scored is not None and scored != sampler:
        yield (
            f"{step.name}: `token_columns.{SAMPLER}: {column.name}` has the log-probs of {scored}, and the "
            f"samples are those of {sampler}: take a column of that model"
        )


def _nothing_stored(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """Log-probs that are to be those of an engine which has kept none."""
    if STORED not in step.inputs:
        return
    source = graph[step.inputs[STORED]]
    drawn = source.sections.get("generate", generate) if source.kind == "sample" else None
    if not getattr(drawn, "logprobs", False):
        field = f"steps.{source.name}.logprobs" if source.own else "generate.logprobs"
        mend = f"set `{field}: true`, or name" if isinstance(drawn, VllmTraces) else "name"
        yield (
            f"{step.name}: no log-probs were stored of {source.name}, and without a model none are computed: {mend} in `model` "
            "the model that sampled them"
        )


def _other_checks(graph: Graph, step: Step) -> Iterator[str]:
    """Verifications that are not of the samples that they are to stand behind."""
    if step.kind != "self_verify" or "checks" not in step.inputs:
        return
    source = graph[step.inputs["checks"]]
    while "of" in source.inputs and source.kind != "examine":
        source = graph[source.inputs["of"]]
    asked = graph[source.inputs["problems"]] if "problems" in source.inputs else source
    if asked.kind != "examine" or asked.inputs["of"] != step.inputs["of"]:
        yield (
            f"{step.name}: `checks: {step.inputs['checks']}` verifies no samples of {step.inputs['of']}: make it of a step "
            f"`{{do: examine, of: {step.inputs['of']}}}`, sampled from and verified"
        )


def _other_posed(graph: Graph, step: Step) -> Iterator[str]:
    """Answers to problems that were made of other samples: ids of samples count within a problem, so that they would be taken for
    those of these."""
    for role in (RIGHT, GUIDES):
        if role not in step.inputs:
            continue
        asked = graph[_drawn_in(graph, step.inputs[role])]
        posed = graph[asked.inputs["problems"]] if "problems" in asked.inputs else asked
        if posed.kind == "pose" and _drawn_in(graph, posed.name) != _drawn_in(graph, step.inputs["of"]):
            said = step.wording.words.get(role, role)
            yield (
                f"{step.name}: `{said}: {step.inputs[role]}` answers problems that {posed.name} has made of "
                f"{posed.inputs['of']}, which has other samples than {step.inputs['of']}: make it of those"
            )


def _drawn_in(graph: Graph, name: str) -> str:
    """The step that has drawn these samples, or of which a step has made problems."""
    step = graph[name]
    return _drawn_in(graph, step.inputs["of"]) if "of" in step.inputs else name


def samples_of(graph: Graph, name: str) -> str:
    """The step whose samples these are, with verdicts or without, or what is said of them."""
    step = graph[name]
    return samples_of(graph, step.inputs["of"]) if step.kind in SAME_SAMPLES else name


def _misfits(graph: Graph, step: Step) -> Iterator[str]:
    name, settings, source = step.settings.objective.name, step.settings.settings, graph[step.inputs["groups"]]
    if name in REWARDED and source.kind == "pairs":
        on = source.inputs["of"] if source.wording.step else source.name
        yield f"{step.name}: {name} learns from rewards, and pairs of {on} have none: {MEND}"
    if name in VALUED and settings.probe is not None:
        yield f"{step.name}: a probe asks for answers, and {name} trains a reward model, which gives none: set `probe: null`"
    if source.kind == "pairs" and WEIGHTS in source.inputs and step.settings.kind == "examples":
        yield (
            f"{step.name}: {name} learns from the positives of {source.name}, whose tokens are not weighed: its weights are for "
            "pairs. Take weights in a step `groups`, or an objective that learns from pairs"
        )
    needed = [SAMPLER] if name in SAMPLED else []
    needed += [REWARD_MEAN] if getattr(step.settings.objective, "token_rewards", False) else []
    if lacking := [column for column in needed if TOKENS + column not in source.inputs]:
        made = {
            SAMPLER: "a step `logps`",
            REWARD_MEAN: "a step `score` (scorer `reward`, `at: tokens`; `use: running mean`)",
        }
        yield (
            f"{step.name}: {name} reads {', '.join(lacking)} of each token, and {source.name} has none: name a column of "
            f"{made[lacking[0]]} in a step `groups` (`token_columns: {{{lacking[0]}: COLUMN}}`)"
        )
    if source.kind == "self_verify" and settings.outside_spans == 0:
        yield (
            f"{step.name}: the spans of {source.name} are the wrong attempts, which weigh nothing; all else is to be learnt: set "
            "`train: {outside_spans: 1}`"
        )
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
