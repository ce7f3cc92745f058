"""What steps ask of what they take beyond its type, as far as a graph tells it: columns of the same samples, log-probs of the
sampler, reward models. What objectives learn from is in `redi_ray.pipeline.learnt`."""

from __future__ import annotations

from collections.abc import Iterator

from redi_ray.config.data import Generate, VllmTraces
from redi_ray.config.reward_objectives import VALUED
from redi_ray.config.scorer_base import REWARD, RIGHT
from redi_ray.config.steps import BY_COLUMN
from redi_ray.errors import listed
from redi_ray.eval.scoring import RANK, SCORE
from redi_ray.pipeline.graph import MISFITS, Graph, GraphError, Step
from redi_ray.pipeline.kinds.groups import BY, TOKENS, WEIGHTS
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.pipeline.kinds.pose import GUIDES
from redi_ray.pipeline.learnt import misfits
from redi_ray.pipeline.taught import SAMPLER, TEACHER, sampler_of, taught_misfits
from redi_ray.stages.guided import GUIDE

AT = "at"
"""What the first step of a rectification, and questions about steps, call their column."""
SAME_SAMPLES = ("verify", "grade", "score", "locate", "contrast", "logps", "soft_targets", "token_starts")
"""Kinds that say something of the samples they take, or begin with some of them."""


BY_VERDICT = ("logps", "soft_targets")
"""Kinds that take samples without verdicts, too, and of those with verdicts the ones that their settings name."""
VARYING = ("perturb", "paraphrase")
"""Kinds that make variants of problems."""
POSING = ("pose", "hand_over")
"""Kinds that make a problem of each sample, under its id."""


def require_asked(graph: Graph, generate: Generate) -> None:
    """Raise GraphError for groups with columns of other samples or of another sampler, for log-probs that nobody has stored, and
    for trainings that ask for what their data never have. generate: the config's section."""
    found = [
        line for step in graph for line in (*_foreign_columns(graph, step), *_other_samplers(graph, step, generate))
    ]
    found += [line for step in graph for line in (*_nothing_stored(graph, step, generate), *_unverified(graph, step))]
    found += [line for step in graph for line in (*_other_checks(graph, step), *_other_posed(graph, step))]
    found += [line for step in graph for line in _no_variants(graph, step, generate)]
    found += [line for step in graph if step.kind == "train" for line in misfits(graph, step)]
    found += [line for step in graph for line in taught_misfits(graph, step, generate)]
    found += [line for step in graph for line in _wrong_heads(graph, step)]
    if found:
        raise listed(GraphError, MISFITS, found)


def _foreign_columns(graph: Graph, step: Step) -> Iterator[str]:
    for role, column in step.inputs.items():
        beside = (
            role.startswith((BY, TOKENS))
            or role in (WEIGHTS, AT, BY_COLUMN)
            or (step.kind in ("critical", "compare", "check") and role in ("column", "to"))
            or (step.kind == "grade" and role == "by")
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


def _other_samplers(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """Log-probs that are to be the sampler's, and are another model's."""
    for name in (SAMPLER, TEACHER):
        column = graph[step.inputs[TOKENS + name]] if TOKENS + name in step.inputs else None
        if column is not None and (column.kind != "logps" or step.settings.token_columns[name].use != "value"):
            yield (
                f"{step.name}: `token_columns.{name}: {column.name}` holds no log-probs as they are: take a column of a step "
                "`logps`, with `use: value`"
            )
            return
    column = graph[step.inputs[TOKENS + SAMPLER]] if TOKENS + SAMPLER in step.inputs else None
    if column is None:
        return
    sampler, scored = sampler_of(graph, column.name, generate), column.inputs.get("model")
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


def _unverified(graph: Graph, step: Step) -> Iterator[str]:
    """Columns of samples with certain verdicts, where none have been given."""
    if step.kind in BY_VERDICT and step.settings.verdicts is not None and graph[step.inputs["of"]].gives == "traces":
        of = step.inputs["of"]
        verified = [other.name for other in graph if other.kind == "verify" and other.inputs["of"] == of]
        mend = f"`of: {verified[0]}`, which verifies them" if verified else f"`of` a step `{{do: verify, of: {of}}}`"
        yield (
            f"{step.name}: `verdicts` asks for samples that are {', '.join(step.settings.verdicts)}, and those of {of} have no "
            f"verdicts: make it {mend}, or leave `verdicts` out"
        )


def _other_checks(graph: Graph, step: Step) -> Iterator[str]:
    """Verifications that are not of the samples that they are to stand behind."""
    if step.kind in ("self_verify", "examine") and graph[step.inputs["of"]].kind != "groups":
        yield (
            f"{step.name}: `of: {step.inputs['of']}` has not all samples of a problem: make them groups by a step "
            "`{do: groups, of: TRACES, rewards: {correct: 1, wrong: -1}, least: 1}`"
        )
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
        if role not in step.inputs or step.kind not in ("score", "pose"):
            continue
        asked = graph[_drawn_in(graph, step.inputs[role])]
        posed, said = (
            graph[asked.inputs["problems"]] if "problems" in asked.inputs else asked,
            step.wording.words.get(role, role),
        )
        if posed.kind not in POSING:
            yield (
                f"{step.name}: `{said}: {step.inputs[role]}` answers no problems that were made of samples: make some by a step "
                f"`{{do: pose, of: {step.inputs['of']}}}`, and answer those"
            )
        elif _drawn_in(graph, posed.name) != _drawn_in(graph, step.inputs["of"]):
            yield (
                f"{step.name}: `{said}: {step.inputs[role]}` answers problems that {posed.name} has made of "
                f"{posed.inputs['of']}, which has other samples than {step.inputs['of']}: make it of those"
            )


def _no_variants(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """Samples that answer no variants, that have no originals beside them, or were drawn the oftener the more of them failed."""
    if step.kind != "robustness":
        return
    for role, name in step.inputs.items():
        source = graph[_drawn_in(graph, name)]
        if source.kind == "sample" and getattr(source.sections.get("generate", generate), "max_rounds", 1) > 1:
            yield (
                f"{step.name}: `{role}: {name}` is sampled in rounds, the oftener the more of it failed, which says nothing of "
                f"accuracy: set `max_rounds: 1` of {source.name}"
            )
    made = _answered_by(graph, step.inputs["of"])
    if made is None or made.kind not in VARYING:
        yield (
            f"{step.name}: `of: {step.inputs['of']}` answers no variants: make some by a step `{{do: perturb, problems: "
            "problems, distractor: {}}`, and sample those"
        )
    elif "to" not in step.inputs and not made.settings.originals and getattr(made.settings, "imported", None) is None:
        yield (
            f"{step.name}: {made.name} has no originals, so that there is nothing to hold variants against: set its "
            "`originals: true`, or name samples of the originals in `to`"
        )


def _answered_by(graph: Graph, name: str) -> Step | None:
    """The step whose problems these samples answer."""
    source = graph[_drawn_in(graph, name)]
    return graph[source.inputs["problems"]] if "problems" in source.inputs else None


def _drawn_in(graph: Graph, name: str) -> str:
    """The step that has drawn these samples, or of which a step has made problems."""
    step = graph[name]
    return _drawn_in(graph, step.inputs["of"]) if "of" in step.inputs else name


def samples_of(graph: Graph, name: str) -> str:
    """The step whose samples these are, with verdicts or without, or what is said of them."""
    step = graph[name]
    return samples_of(graph, step.inputs["of"]) if step.kind in SAME_SAMPLES else name
