"""Traces that may not be picked make way for the next; problems in other languages go; each leaves a row with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from curation_runs import Rows, curate_here, plan, reasons, solved, trace

from redi_ray.config import curation
from redi_ray.config.curation import ChosenRules, CurateConfig
from redi_ray.config.load import ConfigError, load_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.blocks import BLOCKS, Blocks, first_why, trace_blocks
from redi_ray.data.curate.scan import columns_of

GOOD = r"<think>two and two</think> \boxed{4}"
BAD = {
    "truncated": (GOOD, "loop"),
    "too_few_chars": ("<think>4</think>", "stop"),
    "too_many_chars": (GOOD + " " * 200, "stop"),
    "thought_not_closed_once": (r"<think>two and two, \boxed{4}", "stop"),
    "not_one_box": (r"<think>two and two</think> \boxed{4} or \boxed{5}", "stop"),
    "repetitive": (r"<think>" + "a b " * 30 + r"</think> \boxed{4}", "stop"),
}
RULES: dict[str, Any] = {
    "truncated": False,
    "min_chars": 20,
    "max_chars": 200,
    "format": {},
    "repetition": {"max_ratio": 2, "tail_chars": 200},
}


@pytest.mark.parametrize("reason", BAD)
def test_each_rule_alone_and_the_next_trace_takes_the_place(tmp_path: Path, bpe_tokenizer: str, reason: str):
    bad, finish_reason = BAD[reason]
    rows = [
        trace("p", 0, "correct", bad, finish_reason=finish_reason),
        trace("p", 1, "correct", GOOD, finish_reason="stop"),
        trace("p", 2, "wrong", bad, finish_reason=finish_reason),
        trace("p", 3, "wrong", GOOD.replace("4", "5")),
    ]
    config = {side: RULES for side in ("chosen", "rejected")}
    counts, tables = curate_here(tmp_path, bpe_tokenizer, rows, **config)
    assert counts.traces_dropped == {f"chosen_{reason}": 1, f"rejected_{reason}": 1}
    assert reasons(tables, "trace") == {"p#0": f"chosen_{reason}", "p#2": f"rejected_{reason}"}
    assert [row["pair_id"].split("/")[1:] for row in tables["pairs"]] == [["p#1", "p#3"]]


def test_the_sides_have_rules_of_their_own(tmp_path: Path, bpe_tokenizer: str):
    """A rejected trace may well be cut off: that is one way to fail."""
    rows = [
        trace("p", 0, "correct", GOOD, finish_reason="length"),
        trace("p", 1, "wrong", GOOD, finish_reason="length"),
        trace("q", 0, "correct", GOOD),
        trace("q", 1, "wrong", GOOD, finish_reason="length"),
        trace("r", 0, "correct", GOOD),
        trace("r", 1, "no_answer", GOOD, finish_reason="length"),
    ]
    counts, tables = curate_here(tmp_path / "a", bpe_tokenizer, rows, chosen={"truncated": False})
    assert counts.dropped == {"no_usable_correct_trace": 1}
    assert [row["problem_id"] for row in tables["pairs"]] == ["q"]
    counts, _ = curate_here(tmp_path / "b", bpe_tokenizer, rows, rejected={"truncated": False})
    assert counts.pairs_dropped == {"no_usable_wrong_trace": 2, "no_wrong_trace": 1}
    assert counts.traces_dropped == {"rejected_truncated": 2}  # r's trace could not have been rejected anyway


@pytest.mark.parametrize(("prefix", "refused"), [("<think>\n", True), ("", False)])
def test_thoughts_are_asked_for_only_where_the_prompt_opens_them(prefix: str, refused: bool):
    rules = ChosenRules(format={})  # type: ignore[arg-type]
    found = first_why(trace_blocks(rules, PromptSettings(prefix=prefix)), {"completion": r"so \boxed{4}"})
    assert (found is not None) is refused


def test_texts_are_read_only_for_blocks_that_need_them(tmp_path: Path, bpe_tokenizer: str):
    """The paper's rule scans ids and verdicts alone: a hundred bytes a trace instead of tens of kilobytes."""
    job = plan(tmp_path, bpe_tokenizer, [[]])
    assert columns_of(job, Blocks.of(job)) == [
        *("problem_id", "trace_id", "sample_index", "verdict"),
        "turns",  # null for traces of one
    ]
    job = plan(tmp_path, bpe_tokenizer, [[]], duplicates={}, rejected={"pick": "shortest"})
    assert {"problem", "completion"} <= set(columns_of(job, Blocks.of(job)))


LANGUAGES = {
    "en": "Find all real numbers $x$ such that $x^2=4$.",
    "fr": "Trouver toutes les valeurs de $x$ telles que $x^2=4$.",
    "none": "$x^2=4$",
}


@pytest.mark.parametrize(
    ("language", "left"),
    [
        ({"allow": ["en"]}, {"en", "none"}),
        ({"allow": ["fr", "zh"]}, {"fr", "none"}),
        ({"allow": ["zh"], "min_confidence": 0.999}, {"en", "fr", "none"}),
    ],
)
def test_other_languages_go_and_undecided_problems_stay(
    tmp_path: Path, bpe_tokenizer: str, language: dict[str, Any], left: set[str]
):
    rows: Rows = [row for name, text in LANGUAGES.items() for row in solved([text], name)]
    counts, tables = curate_here(tmp_path, bpe_tokenizer, rows, language=language)
    assert {row["problem_id"].removesuffix("0") for row in tables["examples"]} == left
    assert counts.dropped.get("other_language", 0) == 3 - len(left)


def test_the_languages_are_those_that_the_model_knows():
    """The list spares every command with a config the reading of the model."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert set(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == curation.LANGUAGES


def test_unknown_languages_and_sections_are_named():
    with pytest.raises(ConfigError, match="no known language: xx"):
        load_config("configs/demo.yaml", ["curate.language={allow: [en, xx]}"])
    with pytest.raises(ConfigError, match="Did you mean `threshold`"):
        load_config("configs/demo.yaml", ["curate.duplicates={near: {treshold: 0.5}}"])
    with pytest.raises(ConfigError, match="nothing to compare with: set benchmarks: true"):
        load_config("configs/demo.yaml", ["curate.contamination={benchmarks: false}"])


def test_every_new_block_is_off_by_default():
    """The paper's configs must stay the paper's rule."""
    for config in (CurateConfig(), load_config("configs/paper/qwen2.5_math_1.5b.yaml").curate):
        assert [config.duplicates, config.contamination, config.language, config.difficulty] == [None] * 4
        for side in (config.chosen, config.rejected):
            assert trace_blocks(side, PromptSettings()) == ()
            assert side.truncated
            assert side.pick == "first"
        assert config.pairs_per_problem == config.positives_per_problem == 1


def test_a_block_says_what_it_reads_and_why_things_go(tmp_path: Path, bpe_tokenizer: str):
    """No two give a reason of one name, all of a config that asks for everything are on, and their columns are read."""
    reasons_given = [reason for block in BLOCKS for reason in block.reasons]
    assert len(reasons_given) == len(set(reasons_given))
    assert {*BAD} <= {*reasons_given}
    rules = {**RULES, "format": {"think": True, "one_box": True}}
    difficulty = {"buckets": [{"up_to": 1, "max_problems": 1}]}
    everything: dict[str, Any] = {"language": {}, "contamination": {}, "duplicates": {"semantic": {}}}
    everything |= {"difficulty": difficulty, "diversity": {"problems": 1}}
    job = plan(tmp_path, bpe_tokenizer, [[]], chosen=rules, rejected=rules, **everything)
    blocks = Blocks.of(job)
    assert {type(block) for block in blocks} == {*BLOCKS}
    assert {"problem", "answer", "completion", "finish_reason"} <= set(columns_of(job, blocks))
