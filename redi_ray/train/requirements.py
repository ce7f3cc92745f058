"""What an objective reads, held against what the sequences have: before the first step, by name."""

from __future__ import annotations

import numpy as np

from redi_ray.config.objectives import Objective
from redi_ray.modeling.soft_columns import is_soft
from redi_ray.objectives import OBJECTIVES, SOFT_TARGETS
from redi_ray.train.sequences import SequenceStore


def require_data(store: SequenceStore, objective: Objective) -> None:
    """Raise ValueError, with what makes it, where the sequences lack something that the objective reads."""
    name, spec = objective.name, OBJECTIVES[objective.name]
    if spec.needs_reference and store.ref_logps is None:
        raise ValueError(
            f"{name} needs reference log-probs, and the sequences have none: they are made of the model that training "
            "starts from, in the step before it (references)"
        )
    read = dict.fromkeys([*spec.columns(objective), *spec.sums(objective)])
    if spec.soft is not None:
        require_distributions(store, objective)
    if missing := [column for column in read if column not in store.columns]:
        raise ValueError(
            f"{name} needs the token columns {', '.join(missing)}, and the sequences have "
            f"{', '.join(sorted(store.columns)) or 'none'}: a step that scores the samples' tokens makes them, and they go "
            "beside the tokens when the groups are tokenised"
        )
    if store.unit is not None and not spec.several_units:
        most = int(np.diff(store.unit_offsets).max(initial=0)) if store.unit_offsets is not None else 0
        raise ValueError(
            f"{name} needs one score per sequence, and the sequences have up to {most} units each: tokenise the groups "
            "without spans, or choose an objective on units"
        )
    if spec.needs_mismatched(objective) and (store.mismatched is None or store.mismatched.ref_logps is None):
        raise ValueError(
            f"{name} with a mismatched baseline needs mismatched sequences with reference log-probs (see "
            "redi_ray.train.mismatched), and the sequences have none; or set the objective's `baseline`"
        )
    if spec.needs_rewards(objective):
        require_rewards(store, objective)
    if spec.compares_sides:
        require_both_sides(store, name)
    if spec.sides == "pairs":
        require_pairs(store, name)


def require_distributions(store: SequenceStore, objective: Objective) -> None:
    """Raise ValueError unless the sequences have a teacher's distributions, of as many tokens as the objective asks for."""
    column, wanted = store.columns.get(SOFT_TARGETS), getattr(objective, "top_k", None)
    if column is None or not is_soft(column):
        raise ValueError(
            f"{objective.name} needs a teacher's distributions, the token column {SOFT_TARGETS}, and the sequences have "
            f"{', '.join(sorted(store.columns)) or 'none'}: a step `soft_targets` makes them, and a step `groups` names it in "
            f"`token_columns: {{{SOFT_TARGETS}: STEP}}`"
        )
    stored = column.dtype["ids"].shape[0]
    if wanted is not None and wanted > stored:
        raise ValueError(
            f"{objective.name}: top_k {wanted} is more than the {stored} tokens that the column has of each: store more "
            "(`top_k` of the step `soft_targets`), or ask for fewer"
        )
    if stored == 1 and getattr(objective, "rest", "") == "renormalise":
        raise ValueError(
            f"{objective.name}: the column has one token of each, of which `rest: renormalise` leaves nothing to learn: set "
            "`rest: bucket`, or store more"
        )


def require_rewards(store: SequenceStore, objective: Objective) -> None:
    """Raise ValueError unless every unit has a reward and, where only differences count, some group has a difference."""
    name, spec = objective.name, OBJECTIVES[objective.name]
    rewards = np.full(1, np.nan) if store.reward is None else np.asarray(store.reward)
    if not np.isfinite(rewards).all():
        lacking = "none" if store.reward is None else f"{np.isfinite(rewards).sum()} of {len(rewards)} have one"
        raise ValueError(
            f"{name} needs a reward for every sequence (or unit), and {lacking}: the step that makes the groups gives them, "
            "from verdicts or scores, or an imported set with a column of rewards"
        )
    if spec.reward_range is not None:
        lowest, highest = spec.reward_range
        if odd := int(((rewards < lowest) | (rewards > highest)).sum()):
            raise ValueError(
                f"{name} needs rewards between {lowest:g} and {highest:g}, and {odd} of {len(rewards)} are not: they "
                "are what the step `groups` makes of verdicts, scores or labels"
            )
    if spec.compares_rewards(objective):
        group = store.group if store.unit_offsets is None else np.repeat(store.group, np.diff(store.unit_offsets))
        order = np.argsort(group, kind="stable")
        borders = np.flatnonzero(np.diff(group[order], prepend=-1))
        most, least = (f.reduceat(rewards[order], borders) for f in (np.maximum, np.minimum))
        if not (most > least).any():
            raise ValueError(
                f"{name} compares the rewards of a group, and none of {store.num_groups} groups has two that differ: they would "
                "decide nothing. Groups need several samples of a problem, right ones and wrong ones; or set another `baseline`"
            )


def require_both_sides(store: SequenceStore, name: str) -> None:
    """Raise ValueError unless some group has a sequence on each side."""
    right = np.bincount(store.group, weights=store.side > 0, minlength=store.num_groups)
    wrong = np.bincount(store.group, weights=store.side < 0, minlength=store.num_groups)
    if not ((right > 0) & (wrong > 0)).any():
        raise ValueError(
            f"{name} learns from right samples beside wrong ones, and none of {store.num_groups} groups has both: groups need "
            "several samples of a problem (a step `groups` with `both_sides: true`)"
        )


def require_pairs(store: SequenceStore, name: str) -> None:
    """Raise ValueError unless every group is a pair."""
    chosen = np.bincount(store.group, weights=store.side > 0, minlength=store.num_groups)
    rejected = np.bincount(store.group, weights=store.side < 0, minlength=store.num_groups)
    unpaired = np.flatnonzero((chosen != 1) | (rejected != 1))
    if len(unpaired):
        raise ValueError(
            f"{name} needs pairs: {len(unpaired)} of {store.num_groups} groups do not have exactly one "
            f"chosen and one rejected sequence (the first: group {unpaired[0]})"
        )
