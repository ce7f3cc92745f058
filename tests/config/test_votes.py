"""Who votes and how that decides: combinations that would silently give no verdict are refused."""

from __future__ import annotations

import pytest

from redi_ray.config.answers import VerifySettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.load import ConfigError, load_config

BOTH = ["math_verify", "judge"]
ALL, FEW = JudgeSettings(model="j"), JudgeSettings(model="j", ask="not_correct")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"judge": ALL}, "votes does not hold it"),
        ({"judge": FEW, "votes": ["judge"], "policy": "any"}, "needs math_verify among the votes"),
        ({"judge": FEW, "votes": BOTH}, "policy all needs the judge's vote on every trace"),
        ({"judge": FEW, "votes": BOTH, "policy": "paper"}, "policy paper needs the judge's vote on every trace"),
        ({"judge": FEW, "votes": ["judge", "math_verify"], "policy": "both_false"}, "as the first of the votes"),
    ],
)
def test_judge_and_policy_must_fit(settings: dict, told: str):
    with pytest.raises(ValueError, match=told):
        VerifySettings(**settings)


def test_the_first_pass_is_the_same_under_every_judge_policy_and_inversion():
    """Or trying another policy would sample and compare everything again."""
    plain = VerifySettings()
    assert plain.in_one_pass
    assert plain.first_pass() is plain
    passes = [
        VerifySettings(judge=ALL, votes=BOTH),
        VerifySettings(judge=FEW, votes=BOTH, policy="any"),
        VerifySettings(judge=ALL, votes=["label", "judge"], policy="drop_disagreement"),
        VerifySettings(invert_labels=True),
    ]
    assert not any(settings.in_one_pass for settings in passes)
    assert {repr(settings.first_pass()) for settings in passes} == {repr(VerifySettings(policy="math_verify_only"))}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["verify.votes=[math_verify, judge]"], "nothing casts its votes: set verify.judge"),
        (["verify={votes: [label]}"], "must hold math_verify when traces are sampled, or verify.judge must be set"),
        (["verify={votes: [judge], judge: {}}"], "set either `model`, which vLLM runs here, or `endpoint`"),
        (["verify={votes: [judge], judge: {model: m, promt: x}}"], "promt: unknown key. Did you mean `prompt`?"),
        (["verify={votes: [judge], judge: {model: m, prompt: '{x}'}}"], "only {problem}, {answer}, {completion}"),
    ],
)
def test_mistakes_are_named_in_the_config(overrides: list[str], told: str):
    with pytest.raises(ConfigError) as caught:
        load_config("configs/demo.yaml", overrides)
    assert told in str(caught.value)


def test_a_judge_may_be_the_only_voter_and_openr1_brings_its_own():
    load_config("configs/demo.yaml", ["verify={votes: [judge], judge: {model: m}}"])
    load_config("configs/paper/qwen2.5_math_1.5b.yaml")
