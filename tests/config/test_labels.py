"""Label selectors: what passes here Ray takes too, and mistakes are named where they stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.label_utils import validate_label_selector
from ray._raylet import node_labels_match_selector

from redi_ray.config.labels import selector_error
from redi_ray.config.load import ConfigError, load_config

GOOD = [
    {},
    {"pool": "engine"},
    {"pool": "!train"},
    {"pool": "in(engine,train)"},
    {"pool": "!in(a,b)"},
    {"ray.io/market-type": "spot", "example.org/gpu": "A100-80"},
    {"k" * 63: "v" * 63},
]
BAD = [
    {"pool": ""},
    {"pool": "engine "},
    {"pool": "in()"},
    {"pool": "in(a,)"},
    {"pool": "!!a"},
    {"pool": "not in(a)"},
    {"pool": "-a"},
    {"pool": "(a,b)"},
    {"pool": "in(a, b)"},
    {"pool": "v" * 64},
    {"": "a"},
    {"/pool": "a"},
    {"a/b/c": "a"},
    {"po ol": "a"},
    {("a" * 60 + ".") * 5 + "a/pool": "x"},
]


@pytest.mark.parametrize("selector", GOOD, ids=str)
def test_what_ray_takes_passes(selector: dict[str, str]):
    assert validate_label_selector(selector) is None
    assert selector_error(selector) is None


def test_two_forms_that_ray_takes_do_not_mean_what_they_say():
    """Why they are refused; should Ray come to read them, they can pass."""
    for form in ("in(a, b)", "(a,b)"):
        assert validate_label_selector({"pool": form}) is None
        assert not node_labels_match_selector({"pool": "b"}, {"pool": form})
    assert node_labels_match_selector({"pool": "b"}, {"pool": "in(a,b)"})


@pytest.mark.parametrize("selector", BAD, ids=lambda selector: str(selector)[:30])
def test_what_would_match_nothing_or_be_refused_is_an_error(selector: dict[str, str]):
    assert selector_error(selector) is not None


PIECES = st.text(st.sampled_from("aZ0-_./!(), in"), max_size=12)


@given(st.dictionaries(PIECES, PIECES, max_size=2))
def test_nothing_passes_that_ray_refuses(selector: dict[str, str]):
    if selector_error(selector) is None:
        assert validate_label_selector(selector) is None


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("resources.engine.label_selector={pool: engine!}", "label_selector: pool: 'engine!' is no value"),
        ("resources.trainer.label_selector={po ol: a}", "label_selector: 'po ol' is no key of a label"),
        ("resources.cpu_label_selector={pool: in()}", "cpu_label_selector: pool: 'in()' is no value"),
        (
            "resources.engine.label_selector={pool: 1}",
            "resources.engine.label_selector.pool: Input should be a valid string",
        ),
        ("resources.verify.label_selector={}", "resources.verify: unknown key"),
    ],
)
def test_a_wrong_selector_is_named_with_its_place(override: str, told: str):
    with pytest.raises(ConfigError) as caught:
        load_config("configs/demo.yaml", [override])
    assert told in str(caught.value)
