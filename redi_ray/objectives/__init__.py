"""Objectives as pure functions of per-unit scores, and of single tokens.

The trainer knows tokens, weights, references, rewards and groups; an objective knows one number per unit, normally the
sequence. The trainer sums each unit's weighted log-probs into `Scores`, calls `psi(scores, settings, progress) -> (loss,
metrics)` on tiny float64 tensors, takes `d loss / d scores.logps` by autograd, and hands that coefficient, times the
token's weight, to every scored token of the unit: the head's kernel turns it into the gradient
(`redi_ray.modeling.logps`). So packing, chunks, ranks and sharding are none of an objective's business, and an objective
cannot break them.

Beside psi an objective may have a pointwise part, `phi(tokens, settings, progress) -> [n]`: one term per token, whose sum
over the scored tokens of the global batch is added to the loss. Its derivative is taken inside the kernel's one pass, when
a token's log-prob is known and before its gradient is needed:

    coefficient of a token = weight * d psi / d score of its unit + d phi / d its log-prob

What another model says of the whole vocabulary has its gradient in the kernel, too: `soft` says what the divergence from a
teacher's distribution at each token counts (`redi_ray.objectives.soft`).

How to add one
1. Settings: a frozen dataclass in `redi_ray/config/objectives.py`, or beside its family in `rollout_objectives.py` or
   `soft_objectives.py`, its `name` a new tag, each hyper-parameter with a default and a docstring, its range checked in
   `__post_init__`; add it to the `Objective` union.
2. The function, here, beside its family or in a new file: `def mine(scores, settings, progress)`. Its docstring gives
   the paper, the formula, the symbols and the denominator. `scores.mean_logps()` are per-token, `scores.logps` summed,
   `scores.log_ratios()` against the reference, `scores.pairs(x)` splits any of them into chosen and rejected,
   `scores.group_sums(x)` adds up a problem's samples. Average over what the formula averages over: the scores are those of
   the *global* batch. Whatever must not carry a gradient is detached in the function. Metrics are detached scalars.
   A loss of single tokens is `def mine(tokens, settings, progress)` with `tokens.num_tokens` and the like as its
   denominator, and `nothing` for its psi; what it needs of a token's unit or group, such as an advantage, `per_unit` makes. A
   weight per token (a mask, a step, a turn, cDPO's critical tokens) needs no objective: it is data.
3. One line in `OBJECTIVES`, which names the function by module and name (asking what a training needs must not load torch;
   predicates of settings lie in `needs.py`): which sides it reads, whether it needs a reference (and log-probs of mismatched
   sequences, `scores.mismatched`), rewards, further token columns, whether sequences may have several units, and whether psi
   is linear in the log-probs (same gradient coefficients at any scores): linear ones skip the scoring pass. A hinge is not
   linear.
   What it reads and the data lack is refused by name before the first step (`redi_ray.train.requirements`).
   One that reads values (`reads="values"`) trains a scalar head: its settings extend `ValueHead`, and its name stands in
   `VALUED` (and `AT_LAST`) of `redi_ray/config/reward_objectives.py`.
4. Tests: add it to the list in `tests/objectives/test_objectives.py`, which checks psi and phi against finite differences
   and what it says of linearity (give a hinge settings that bend it between the test's scores), and to the list and the
   `formula` in `tests/train`, by which `test_step.py` checks padding, packing, chunks and ranks, with weights that are not 0
   and 1 and several units; write down one identity it must obey (a limit, a special case, a value at policy == reference).

Nothing else changes: the config, its schema, the stages and the monitors take the name and the metrics from here.
"""

from __future__ import annotations

from redi_ray.objectives.needs import (
    SAMPLER,
    SOFT_TARGETS,
    advantage_compares,
    asymre_compares,
    kto_is_mismatched,
    nft_needs_rewards,
    on_policy_columns,
    on_policy_sums,
    oreal_columns,
    oreal_needs_rewards,
    ppo_compares,
    redi_is_linear,
    sampler_column,
    tail_weight,
)
from redi_ray.objectives.spec import Function, ObjectiveSpec, always, never

OBJECTIVES: dict[str, ObjectiveSpec] = {
    "sft": ObjectiveSpec(
        Function("sft", "sft"), sides="chosen", needs_reference=False, linear=always, several_units=True
    ),
    "redi": ObjectiveSpec(Function("redi", "redi"), sides="pairs", needs_reference=False, linear=redi_is_linear),
    "dpo": ObjectiveSpec(Function("dpo", "dpo"), sides="pairs", needs_reference=True, linear=never),
    "ld_dpo": ObjectiveSpec(
        Function("dpo", "ld_dpo"), sides="pairs", needs_reference=True, linear=never, tail=tail_weight
    ),
    "simpo": ObjectiveSpec(Function("simpo", "simpo"), sides="pairs", needs_reference=False, linear=never),
    "ipo": ObjectiveSpec(Function("dpo", "ipo"), sides="pairs", needs_reference=True, linear=never),
    "rpo": ObjectiveSpec(Function("dpo", "rpo"), sides="pairs", needs_reference=True, linear=never),
    "nca": ObjectiveSpec(Function("dpo", "nca"), sides="pairs", needs_reference=True, linear=never),
    "cpo": ObjectiveSpec(Function("simpo", "cpo"), sides="pairs", needs_reference=False, linear=never),
    "orpo": ObjectiveSpec(Function("simpo", "orpo"), sides="pairs", needs_reference=False, linear=never),
    "kto": ObjectiveSpec(
        Function("kto", "kto"), sides="any", needs_reference=True, linear=never, needs_mismatched=kto_is_mismatched
    ),
    "asymre": ObjectiveSpec(
        Function("rewards", "asymre"),
        sides="any",
        needs_reference=False,
        linear=always,
        needs_rewards=always,
        compares_rewards=asymre_compares,
        several_units=True,
    ),
    "advantage": ObjectiveSpec(
        Function("rewards", "advantage"),
        sides="any",
        needs_reference=False,
        linear=always,
        needs_rewards=always,
        compares_rewards=advantage_compares,
        several_units=True,
    ),
    "dph": ObjectiveSpec(
        Function("base", "nothing"),
        sides="chosen",
        needs_reference=True,
        linear=always,
        pointwise=Function("dph", "rehearsal"),
        several_units=True,
    ),
    "bradley_terry": ObjectiveSpec(
        Function("values", "bradley_terry"),
        sides="pairs",
        needs_reference=False,
        linear=never,
        reads="values",
        at_last=True,
    ),
    "outcome_bce": ObjectiveSpec(
        Function("values", "outcome_bce"),
        sides="any",
        needs_reference=False,
        linear=never,
        reads="values",
        at_last=True,
        link="sigmoid",
    ),
    "oreal_rm": ObjectiveSpec(
        Function("values", "oreal_rm"), sides="any", needs_reference=False, linear=never, reads="values", link="sigmoid"
    ),
    "step_bce": ObjectiveSpec(
        Function("values", "step_bce"),
        sides="any",
        needs_reference=False,
        linear=never,
        needs_rewards=always,
        several_units=True,
        reads="values",
        at_last=True,
        link="sigmoid",
        reward_range=(0, 1),
    ),
    "step_mse": ObjectiveSpec(
        Function("values", "step_mse"),
        sides="any",
        needs_reference=False,
        linear=never,
        needs_rewards=always,
        several_units=True,
        reads="values",
        at_last=True,
    ),
    "redi_groups": ObjectiveSpec(
        Function("redi", "redi_groups"), sides="any", needs_reference=False, linear=redi_is_linear, several_units=True
    ),
    "s2r": ObjectiveSpec(
        Function("s2r", "s2r"),
        sides="any",
        needs_reference=True,
        linear=never,
        needs_rewards=always,
        several_units=True,
    ),
    "glow": ObjectiveSpec(
        Function("glow", "glow"), sides="any", needs_reference=True, linear=never, several_units=True
    ),
    "topr": ObjectiveSpec(
        Function("sampled", "topr"),
        sides="any",
        needs_reference=False,
        linear=never,
        sums=sampler_column,
        several_units=True,
    ),
    "oreal": ObjectiveSpec(
        Function("base", "nothing"),
        sides="any",
        needs_reference=True,
        linear=always,
        pointwise=Function("oreal", "oreal"),
        columns=oreal_columns,
        per_unit=Function("oreal", "oreal_advantages"),
        needs_rewards=oreal_needs_rewards,
        compares_sides=True,
    ),
    "nft": ObjectiveSpec(
        Function("base", "nothing"),
        sides="any",
        needs_reference=False,
        linear=always,
        pointwise=Function("sampled", "nft"),
        columns=sampler_column,
        per_unit=Function("sampled", "nft_rates"),
        needs_rewards=nft_needs_rewards,
        compares_sides=True,
    ),
    "ppo_clip": ObjectiveSpec(
        Function("base", "nothing"),
        sides="any",
        needs_reference=False,
        linear=always,
        pointwise=Function("sampled", "ppo_clip"),
        columns=sampler_column,
        per_unit=Function("sampled", "ppo_advantages"),
        needs_rewards=always,
        compares_rewards=ppo_compares,
        several_units=True,
    ),
    **{
        name: ObjectiveSpec(
            Function("soft", "distilled"),
            sides="chosen",
            needs_reference=False,
            linear=always,
            soft=Function("soft", "distilled_weights"),
            several_units=True,
        )
        for name in ("forward_kl", "reverse_kl", "js")
    },
    "soft_redi": ObjectiveSpec(
        Function("soft", "soft_redi"),
        sides="pairs",
        needs_reference=False,
        linear=always,
        soft=Function("soft", "soft_redi_weights"),
    ),
    "on_policy_distillation": ObjectiveSpec(
        Function("base", "nothing"),
        sides="any",
        needs_reference=False,
        linear=always,
        pointwise=Function("soft", "on_policy_distillation"),
        columns=on_policy_columns,
        sums=on_policy_sums,
        per_unit=Function("soft", "on_policy_baseline"),
        several_units=True,
    ),
}
"""Every objective by the name it has in the config."""

__all__ = ["OBJECTIVES", "SAMPLER", "SOFT_TARGETS", "ObjectiveSpec"]
