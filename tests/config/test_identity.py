"""What of a section decides an output: fields that came later leave the keys of what was made before them."""

from __future__ import annotations

import importlib
import pkgutil

import redi_ray.config
from redi_ray.config.group_steps import GroupSettings
from redi_ray.config.identity import identity


def classes() -> set[type]:
    """Every settings class."""
    modules = [f"redi_ray.config.{module.name}" for module in pkgutil.iter_modules(redi_ray.config.__path__)]
    found = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return {value for value in found if isinstance(value, type) and value.__module__ in modules}


def test_what_came_later_counts_where_it_is_set() -> None:
    plain = identity(GroupSettings(rewards={"correct": 1, "wrong": 0}))
    assert not plain.keys() & GroupSettings.LATER
    assert identity(GroupSettings(rewards={"correct": 1, "wrong": 0}, margin=0.5)) == {**plain, "margin": 0.5}


def test_no_class_has_two_rules() -> None:
    """One that says itself what decides its output is never asked for `LATER`, so that its new fields would move old keys."""
    named = {one for one in classes() if hasattr(one, "LATER")}
    assert GroupSettings in named
    assert {one.__name__ for one in named if hasattr(one, "identity")} == set()
