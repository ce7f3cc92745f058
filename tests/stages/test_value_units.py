"""Where values are read: the last token of each unit, on both sides alike; and which labelled steps become rewards."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.identity import identity
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.groups.write import valued
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.stages.encoding import Encoder, last_of_units, weighting_of
from redi_ray.text.templates import closing_id

TOKENIZER = character_tokenizer("0123456789+=\n")
TEXT = "1+1=2\n2+2=5"
SPANS = [
    {"turn": 0, "start": 0, "end": 6, "value": 1.0},
    {"turn": 0, "start": 6, "end": 11, "value": 0.0},
]


def encoded(objective: str, side: int, **settings: object):
    member = {
        "turns": [{"role": "assistant", "content": TEXT}], "side": side, "reward": 0.5, "finished": True,
        "spans": SPANS if settings.get("units") == "spans" else None,
    }  # fmt: skip
    weighting = weighting_of(TrainSettings(**settings), chosen_only=False, objective=objective)
    prompt = [{"role": "user", "content": "1"}]
    return Encoder(TOKENIZER, PromptSettings(prefix=""), weighting).group({"prompt": prompt, "members": [member]})[0]


def test_last_of_units() -> None:
    weights, units = np.array([0, 1, 0.5, 0, 2, 1, 0]), np.array([0, 0, 1, 1, 0, 1, 1])
    assert last_of_units(weights, None).tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert last_of_units(weights, units).tolist() == [0, 0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize("side", [1, -1])
def test_a_value_is_read_at_the_end_of_turn_on_either_side(side: int) -> None:
    """Masks of the rejected side would tell the sides apart by the token that is read."""
    masks = {"mask_rejected_end_of_turn": True, "mask_rejected_think_tags": True}
    found = encoded("outcome_bce", side, **masks)
    assert TOKENIZER.decode(found.tokens[found.weights != 0]) == TOKENIZER.decode([closing_id(TOKENIZER)])
    every = encoded("oreal_rm", side, **masks)
    assert np.count_nonzero(every.weights) == len(TEXT) + 1


def test_a_step_is_read_at_its_last_token() -> None:
    found = encoded("step_bce", 1, units="spans")
    assert TOKENIZER.decode(found.tokens[found.weights != 0]) == "\n5"
    assert found.units[found.weights != 0].tolist() == [0, 1]
    assert found.rewards.tolist() == [1.0, 0.0]


def test_arrays_for_log_probs_keep_their_keys() -> None:
    plain = weighting_of(TrainSettings(), chosen_only=False, objective="dpo")
    assert identity(plain) == {name: value for name, value in asdict(plain).items() if name != "last"}
    assert identity(weighting_of(TrainSettings(), chosen_only=False, objective="step_bce")) != identity(plain)


def test_labels_become_rewards() -> None:
    spans = [
        {"turn": 0, "start": n, "end": n + 1, "label": label, "value": value}
        for n, (label, value) in enumerate([("right", 0.75), ("right", None), ("wrong", 0.0), ("unseen", None)])
    ]

    def rewards(labels) -> list[float] | None:
        return [span["value"] for span in valued(spans, GroupSettings(spans="column", labels=labels))]

    assert rewards({"right": 1, "wrong": 0}) == [1, 1, 0]
    assert rewards({"right": "value", "wrong": 0}) == [0.75, 0]
    assert rewards({"neutral": 0}) == []
    assert valued(None, GroupSettings(spans="column", labels={"right": 1})) is None
    assert valued(spans, GroupSettings(spans="column")) == spans
    with pytest.raises(ValueError, match="labels: give some"):
        GroupSettings(labels={"right": 1})
