"""A group -> its sequences: token ids, what each token weighs, the units and their rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.reward_objectives import AT_LAST, VALUED
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.soft_columns import SoftFormat, blanks
from redi_ray.schemas import TOKEN_DISTRIBUTIONS
from redi_ray.stages.groups import COLUMNS, SOFT, WEIGHTS, Group
from redi_ray.text.spans import Span, own_weights, require_offsets, span_of_tokens
from redi_ray.text.templates import closing_id
from redi_ray.text.thoughts import THINK_TAGS
from redi_ray.text.tokens import Encoded, tag_places
from redi_ray.text.turns import encode_turns


@dataclass(frozen=True)
class Weighting:
    """What of a sequence is scored. Chosen sides without spans are scored whole."""

    end_of_turn: bool
    """Whether the tokens that close a rejected member's turns are not pushed down."""
    think_tags: bool
    """The same of the tags of thoughts."""
    outside_spans: float = 0
    """What the tokens weigh that are in none of a member's spans."""
    units: Literal["sequence", "turns", "spans"] = "sequence"
    last: bool = False
    """Whether of each unit the last scored token alone weighs, 1."""

    def identity(self) -> dict[str, Any]:
        """What decides the arrays. Those of which every token weighs keep the keys that they had before there were others."""
        told = asdict(self)
        return told if self.last else {name: value for name, value in told.items() if name != "last"}


def weighting_of(settings: TrainSettings, *, chosen_only: bool, objective: str = "") -> Weighting:
    """What the settings and the objective say; of the rejected sides nothing where there are none. For values no token of a
    rejected side is left out: the place where they are read would tell the sides apart."""
    masks = (settings.mask_rejected_end_of_turn, settings.mask_rejected_think_tags)
    end_of_turn, think_tags = (False, False) if chosen_only or objective in VALUED else masks
    return Weighting(end_of_turn, think_tags, settings.outside_spans, settings.units, objective in AT_LAST)


@dataclass(frozen=True)
class Sequence:
    """One member of a group, T tokens long, of U units."""

    tokens: np.ndarray
    """`[T]` int32"""
    weights: np.ndarray
    """`[T]` float32; 0 where a token is not scored."""
    prompt_length: int
    side: int
    rewards: np.ndarray
    """`[U]` float32; NaN where there is none."""
    units: np.ndarray | None
    """`[T]` int16, which unit a scored token counts to; None where the sequence is one."""
    cut_off: bool
    """Whether it does not end with a closed turn."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`[T]` each: what objectives read by name. Numbers are float32, 0 where a token is not the model's own; a teacher's
    distributions are records (`redi_ray.modeling.soft_columns`)."""


@dataclass(frozen=True)
class Encoder:
    """Groups -> sequences."""

    tokenizer: Any
    prompt: PromptSettings
    weighting: Weighting
    soft: SoftFormat | None = None
    """Of the distributions that the groups have."""

    def check(self) -> None:
        """Raise UserError where the tokenizer cannot tell which tokens are meant."""
        if self.weighting.think_tags:
            require_offsets(self.tokenizer, "mask_rejected_think_tags")

    def group(self, group: Group) -> list[Sequence]:
        """The sequences of a group, in the order of its members.

        Raises ValueError for one that cannot be encoded, a UserError of another kind than PromptError where no such group can.
        """
        if not group["members"]:
            raise ValueError("a group without members")
        _require_text(group["prompt"], "prompt")
        return [self._member(group, member) for member in group["members"]]

    def _member(self, group: Group, member: Mapping[str, Any]) -> Sequence:
        turns, side = member["turns"], member["side"]
        _require_text(turns, "turns")
        if side not in (1, -1):
            raise ValueError(f"side must be +1 or -1, got {side}")
        finished = member["finished"] is not False
        encoded = encode_turns(group["prompt"], turns, self.tokenizer, self.prompt, finished=finished)
        spans = None if member["spans"] is None else [Span(**span) for span in member["spans"]]
        weights, units, rewards = own_weights(encoded), None, [member["reward"]]
        if member.get(WEIGHTS) is not None:
            weights = _by_token(encoded, member[WEIGHTS], "token weights")
        if spans is not None:
            places = span_of_tokens(encoded, turns, spans, self.tokenizer, self.prompt)
            if self.weighting.units == "spans":
                weights, units, rewards = weights * (places >= 0), np.maximum(places, 0), [span.value for span in spans]
            else:
                values = np.array([*(span.value for span in spans), self.weighting.outside_spans], np.float32)
                weights *= values[places]
        if self.weighting.units == "turns":
            units, rewards = _turn_of_tokens(encoded), rewards * len(encoded.own)
        if side < 0:
            self._spare(encoded, turns, weights)
        weights[:1] = 0  # nothing predicts the first token
        if units is not None:
            _require_units(weights, units, len(rewards))
        if self.weighting.last:
            weights = last_of_units(weights, units)
        return Sequence(
            tokens=np.array(encoded.input_ids, np.int32),
            weights=weights,
            prompt_length=encoded.prompt_length,
            side=side,
            rewards=np.array([np.nan if reward is None else reward for reward in rewards], np.float32),
            units=None if units is None else units.astype(np.int16),
            cut_off=encoded.input_ids[-1] != closing_id(self.tokenizer),
            columns=self._columns(encoded, member),
        )

    def _columns(self, encoded: Encoded, member: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found = {name: _by_token(encoded, values, name) for name, values in member.get(COLUMNS, {}).items()}
        if self.soft is not None:
            records = blanks(len(encoded.input_ids), self.soft.dtype)
            if (told := member[SOFT]) is not None:
                own = np.flatnonzero(own_weights(encoded))
                if len(told) != len(own) * records.itemsize:
                    raise ValueError(
                        f"{len(told)} bytes of {TOKEN_DISTRIBUTIONS} for {len(own)} tokens of the model's own turns"
                    )
                records[own] = np.frombuffer(told, records.dtype)
            found[TOKEN_DISTRIBUTIONS] = records
        return found

    def _spare(self, encoded: Encoded, turns: list[dict[str, str]], weights: np.ndarray) -> None:
        """Do not score what is masked of a rejected member."""
        for turn in encoded.own:
            if self.weighting.end_of_turn and turn.closed:
                weights[turn.stop - 1] = 0
            if self.weighting.think_tags:
                found = tag_places(turns[turn.number]["content"], THINK_TAGS, self.tokenizer, self.prompt)
                weights[[turn.start + place for place in found]] = 0


def _by_token(encoded: Encoded, values: list[float], what: str) -> np.ndarray:
    """`[T]` float32: a number for each token, `values` having one for each of the model's own. Raises ValueError where there are
    more or fewer."""
    found = own_weights(encoded)
    own = np.flatnonzero(found)
    if len(values) != len(own):
        raise ValueError(f"{len(values)} {what} for the {len(own)} tokens of the model's own turns")
    found[own] = values
    return found


def last_of_units(weights: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """`[T]` float32: 1 at the last token of each unit that weighs something, 0 elsewhere."""
    scored = np.flatnonzero(weights)
    found = np.zeros(len(weights), np.float32)
    if units is None:
        found[scored[-1:]] = 1
    else:
        of_unit = units[scored][::-1]
        found[scored[::-1][np.unique(of_unit, return_index=True)[1]]] = 1
    return found


def _turn_of_tokens(encoded: Encoded) -> np.ndarray:
    """`[T]` which of the model's own turns each of their tokens is in."""
    found = np.zeros(len(encoded.input_ids), np.int64)
    for number, turn in enumerate(encoded.own):
        found[turn.start : turn.stop] = number
    return found


def _require_units(weights: np.ndarray, units: np.ndarray, count: int) -> None:
    """Raise ValueError where a unit has no scored token, so that it would have no score; where nothing at all is scored,
    that is another matter."""
    scored = np.bincount(units[weights != 0], minlength=count)
    if scored.any() and not scored.all():
        raise ValueError(f"unit {int(np.argmin(scored))} of {count} has no scored token")


def _require_text(messages: list[dict[str, Any]], what: str) -> None:
    for message in messages or ():
        if not isinstance(message.get("content"), str) or not isinstance(message.get("role"), str):
            raise ValueError(f"a message of the {what} is without role or content: {str(message)[:60]}")
