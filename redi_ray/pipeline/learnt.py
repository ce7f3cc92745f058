"""What objectives ask of the data that they learn from, as far as a graph and the first rows of a set tell it, before anything is
sampled. The rest is told by the sequences (`redi_ray.train.requirements`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from redi_ray.config.group_steps import SOFT_TARGETS, GroupSettings
from redi_ray.config.objectives import BY_UNIT, COMPARING, IMITATING, REWARDED, UNPAIRED
from redi_ray.config.reward_objectives import SHARES, VALUED
from redi_ray.config.rollout_objectives import NftObjective, OrealObjective
from redi_ray.config.soft_objectives import SOFT
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds.groups import TOKENS, WEIGHTS
from redi_ray.pipeline.taught import REWARD_MEAN, SAMPLER, TEACHER, columns_read
from redi_ray.stages.training import REHEARSED

if TYPE_CHECKING:
    from redi_ray.data.sources.shapes import Layout

CENTRING = ("leave_one_out", "group_mean", "group_scaled")
"""Baselines that are means of a group's rewards."""
MEND = "learn from a step `groups`, which makes groups with rewards of verified samples, or from imported samples with rewards"


def misfits(graph: Graph, step: Step) -> Iterator[str]:
    """What a training can never learn by its objective from what it is given, a line each, with what would mend it."""
    name, settings, source = step.settings.objective.name, step.settings.settings, graph[step.inputs["groups"]]
    if name in REWARDED and source.kind == "pairs":
        on = source.inputs["of"] if source.wording.step else source.name
        yield f"{step.name}: {name} learns from rewards, and pairs of {on} have none: {MEND}"
    if name in VALUED and settings.probe is not None:
        yield f"{step.name}: a probe asks for answers, and {name} trains a reward model, which gives none: set `probe: null`"
    weighed = source.kind == "pairs" and WEIGHTS in source.inputs and source.settings.side != "rejected"
    if weighed and step.settings.kind == "examples":
        yield (
            f"{step.name}: {name} learns from the positives of {source.name}, whose tokens are not weighed: its weights are for "
            "pairs. Take weights in a step `groups`, or an objective that learns from pairs"
        )
    objective = step.settings.objective
    if lacking := [column for column in columns_read(objective) if TOKENS + column not in source.inputs]:
        made = {
            SAMPLER: "a step `logps`",
            TEACHER: "a step `logps` whose `model` is the teacher",
            SOFT_TARGETS: "a step `soft_targets`",
            REWARD_MEAN: "a step `score` (scorer `reward`, `at: tokens`; `use: running mean`)",
        }
        yield (
            f"{step.name}: {name} reads {', '.join(lacking)} of each token, and {source.name} has none: name a column of "
            f"{made[lacking[0]]} in a step `groups` (`token_columns: {{{lacking[0]}: COLUMN}}`)"
        )
    yield from _too_few_kept(graph, step, source)
    if source.kind == "groups":
        yield from _odd_groups(step, source)
    if source.kind == "self_verify" and name not in IMITATING:
        yield f"{step.name}: {source.name} has one text a problem, which {name} cannot compare with others: take sft"
    for told, role in ((name, "groups"), ("rehearsal", REHEARSED)):
        if role in step.inputs and (told == "rehearsal" or told in IMITATING):
            yield from _nothing_right(step, told, graph[step.inputs[role]])
    running = source.settings.token_columns.get(REWARD_MEAN) if source.kind == "groups" else None
    if running is not None and running.use != "running mean" and getattr(objective, "token_rewards", False):
        yield (
            f"{step.name}: {name} weighs tokens by the mean of a reward model's numbers up to each, and {source.name} gives it "
            f"those of each token alone: set `token_columns: {{{REWARD_MEAN}: {{column: {running.column}, use: running mean}}}}`"
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


def _too_few_kept(graph: Graph, step: Step, source: Step) -> Iterator[str]:
    """Outcomes that an objective asks for and its column lacks."""
    objective, role = step.settings.objective, TOKENS + SOFT_TARGETS
    if objective.name not in SOFT or role not in source.inputs:
        return
    column = graph[source.inputs[role]]
    kept = column.settings.top_k if column.kind == "soft_targets" else None
    if kept is None:
        return
    if objective.top_k is not None and objective.top_k > kept:
        yield f"{step.name}: `objective.top_k: {objective.top_k}` is more than the {kept} that {column.name} keeps (its `top_k`)"
    elif kept == 1 and objective.rest == "renormalise":
        yield (
            f"{step.name}: `rest: renormalise` of the one token that {column.name} keeps leaves nothing to learn: set "
            f"`rest: bucket`, or a larger `top_k` of {column.name}"
        )


def _nothing_right(step: Step, told: str, source: Step) -> Iterator[str]:
    """Groups without a right member, for what imitates."""
    if source.kind == "groups" and _sides(source.settings) == {False}:
        yield (
            f"{step.name}: {told} imitates members on side +1, and {source.name} has none: its rewards are not above "
            f"the threshold {source.settings.threshold:g}"
        )


def _sides(groups: GroupSettings) -> set[bool]:
    """Which sides members can be on: True is +1."""
    if groups.scores or groups.margin is not None:
        return {True, False}
    return {reward > groups.threshold for reward in groups.rewards.values()}


def _odd_groups(step: Step, source: Step) -> Iterator[str]:
    """Groups that are no pairs, for an objective on pairs, and rewards that are no shares, for one on shares."""
    name, groups = step.settings.objective.name, source.settings
    paired = name not in IMITATING | UNPAIRED
    one_each = groups.per_side == 1 and groups.least == 2
    pairs = groups.margin is not None or one_each or (groups.both_sides and (groups.per_side == 1 or groups.most == 2))
    if (paired or name in COMPARING) and len(_sides(groups)) < 2:
        yield (
            f"{step.name}: {name} holds right samples against wrong ones, and all members of {source.name} are on one side: give "
            f"verdicts rewards above and below its threshold {groups.threshold:g} (`rewards: {{correct: 1, wrong: -1}}`)"
        )
    elif name in ("outcome_bce", "oreal_rm") and len(_sides(groups)) < 2:
        yield (
            f"{step.name}: {name} tells right from wrong, and all members of {source.name} are on one side: give wrong ones a "
            f"reward below its threshold {groups.threshold:g} (`rewards: {{correct: 1, wrong: -1}}`)"
        )
    elif paired and not pairs:
        yield (
            f"{step.name}: {name} learns from pairs, and the groups of {source.name} are all samples of a problem: set "
            "`both_sides: true` and `per_side: 1` there, or `margin` for the best against the worst"
        )
    yield from _advantages(step, source)
    by_span = step.settings.settings.units == "spans"
    values = _values_of_spans(groups) if by_span else [] if groups.scores else list(groups.rewards.values())
    if name in SHARES and (odd := [value for value in values if not 0 <= value <= 1]):
        where = "labels" if by_span else "rewards"
        yield (
            f"{step.name}: {name} learns rewards between 0 and 1, and `{where}` of {source.name} has {odd[0]:g}: write 1 for "
            "what is right and 0 for what is wrong"
        )


PICKING = ("per_side", "most_wrong", "frequent_answers", "margin")
"""Settings of groups by which a group's share of right members is none of its problem's."""


def _advantages(step: Step, source: Step) -> Iterator[str]:
    """Rewards that an objective takes for advantages and that are none, or the other way round; and shares of right samples that
    it takes from groups that are picked."""
    objective, groups = step.settings.objective, source.settings
    if isinstance(objective, OrealObjective):
        setting, asked, rewards = "baseline: none", "leave_one_out", {1.0, -1.0}
        given = objective.baseline == "none"
    elif isinstance(objective, NftObjective):
        setting, asked, rewards = "rate: advantages", "group_mean", {1.0, 0.0}
        given = objective.rate == "advantages"
    else:
        if groups.advantages is not None and getattr(objective, "baseline", "none") in CENTRING:
            yield (
                f"{step.name}: {objective.name} with `baseline: {objective.baseline}` takes a group's mean from its rewards, and "
                f"those of {source.name} are advantages already: leave `advantages` out there, or set another `baseline`"
            )
        return
    mend = f"`rewards: {{correct: 1, wrong: {min(rewards):g}}}`, no `scores` and `advantages: {asked}` there"
    if given and (groups.advantages != asked or groups.scores or not {*groups.rewards.values()} <= rewards):
        made = (
            "none"
            if groups.advantages is None
            else f"advantages ({groups.advantages}) of other rewards, or of another kind"
        )
        yield (
            f"{step.name}: {objective.name} with `{setting}` takes rewards for advantages, and those of {source.name} are "
            f"{made}: set {mend}"
        )
    picked = [name for name in PICKING if getattr(groups, name) is not None]
    if not given and picked:
        yield (
            f"{step.name}: {objective.name} takes a problem's share of right samples from its group, and {source.name} picks "
            f"members (`{picked[0]}`): set `{setting}` here, and {mend}"
        )


def _values_of_spans(groups: GroupSettings) -> list[float]:
    """The rewards that labelled spans can have, where settings alone decide it."""
    if groups.labels is None or groups.span_baseline is not None or groups.span_factors:
        return []
    return [value for value in groups.labels.values() if not isinstance(value, str)]


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
