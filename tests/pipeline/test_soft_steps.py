"""Teachers and their distributions as named steps: what they take; what does not fit is refused by name before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cli.preflight import preflight
from redi_ray.cli.preflight_models import check_models_of_steps
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import ModelError, character_tokenizer
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

STEPS: dict[str, Any] = {
    "teacher": {"do": "model", "init": {"kind": "arithmetic", "architecture": {"hidden_size": 192}}},
    "taught": {"do": "sample", "model": "teacher"},
    "taught_math": {"do": "verify", "of": "taught"},
    "soft": {"do": "soft_targets", "of": "taught_math", "model": "teacher", "top_k": 8},
    "groups": {"do": "groups", "of": "taught_math", "least": 1, "token_columns": {"soft_targets": "soft"}},
    "pairs": {"do": "groups", "of": "taught_math", "both_sides": True, "per_side": 1,
              "token_columns": {"soft_targets": {"column": "soft", "side": "chosen"}}},
    "kd": {"do": "train", "from": "base", "on": "groups", "objective": {"name": "forward_kl", "top_k": 4}},
    "soft_redi": {"do": "train", "from": "base", "on": "pairs", "objective": {"name": "soft_redi"}},
    "own": {"do": "sample", "model": "base", "logprobs": True},
    "own_math": {"do": "verify", "of": "own"},
    "teacher_says": {"do": "logps", "of": "own_math", "model": "teacher"},
    "student_said": {"do": "logps", "of": "own_math"},
    "on_policy": {"do": "groups", "of": "own_math", "least": 1,
                  "token_columns": {"teacher_logps": "teacher_says", "sampler_logps": "student_said"}},
    "opd": {"do": "train", "from": "base", "on": "on_policy", "objective": {"name": "on_policy_distillation"}},
    "tuned": {"do": "train", "from": "teacher", "on": "groups", "objective": {"name": "sft"}},
}  # fmt: skip
CHOSEN = {"soft_targets": {"column": "soft", "side": "chosen"}}
WORLD = {"problems": {"source": {"kind": "arithmetic"}}, "model": {"init": {"kind": "arithmetic"}}}


def config(model: dict[str, Any] | None = None, problems: dict[str, Any] | None = None, **steps: Any) -> Any:
    raw = {"name": "x", **WORLD, "generate": {"kind": "vllm", "model": "base"}, "steps": STEPS | steps}
    return parse_config(
        raw | ({} if model is None else {"model": model}) | ({} if problems is None else {"problems": problems})
    )


def graph(**steps: Any) -> Graph:
    return graph_of(config(**steps))


def changed(name: str, **settings: Any) -> dict[str, Any]:
    return {name: STEPS[name] | settings}


def test_a_teacher_is_a_model_like_any_other():
    """It samples, scores, is trained, and is evaluated; what it says of tokens is of the student's, by its tokenizer."""
    found = graph()
    assert found["teacher"].gives == "model"
    assert found["soft"].inputs == {"of": "taught_math", "model": "teacher", "base": "base"}
    assert found["groups"].inputs["tokens soft_targets"] == "soft"
    assert found["tuned"].inputs["start"] == "teacher"
    assert {"eval/teacher", "eval/kd", "eval/opd"} <= set(found.steps)
    assert (found["kd"].settings.reads, found["soft_redi"].settings.reads) == ("examples", "pairs")
    assert found["opd"].settings.reads == "groups"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (changed("groups", token_columns={}), r"kd: forward_kl reads soft_targets of each token, and groups has none: name a "
         r"column of a step `soft_targets` in a step `groups` \(`token_columns: {soft_targets: COLUMN}`\)"),
        (changed("on_policy", token_columns={"teacher_logps": "teacher_says"}),
         "opd: on_policy_distillation reads sampler_logps"),
        (changed("groups", token_columns={"soft_targets": "teacher_says"}), "is a column at grain token, and distribution is"),
        (changed("on_policy", token_columns={"teacher_logps": "soft", "sampler_logps": "student_said"}),
         "`token_columns.teacher_logps: soft` is a column at grain distribution, and token is needed there"),
        (changed("groups", token_columns={"soft_target": "soft"}),
         "token is needed there; a teacher's distributions are read as `soft_targets`"),
        (changed("groups", of="own_math"), "soft` is a column of taught_math, which has other samples than own_math"),
        (changed("kd", objective={"name": "js", "top_k": 9}), "kd: `objective.top_k: 9` is more than the 8 that soft keeps"),
        (changed("soft", top_k=1) | changed("kd", objective={"name": "js", "rest": "renormalise"}),
         "of the one token that soft keeps leaves nothing to learn"),
        (changed("opd", **{"from": "teacher"}), r"opd: on_policy_distillation learns from samples of the student, teacher, and "
         r"those of on_policy are of base: sample with `model: teacher`"),
        (changed("own", model="teacher"), "samples of the student, base, and those of on_policy are of teacher"),
        (changed("groups", token_columns={"soft_targets": "soft", "sampler_logps": "taught_said"})
         | {"taught_said": {"do": "logps", "of": "taught_math", "model": "teacher"}},
         r"groups: `token_columns.sampler_logps` is read by no training on it \(kd \(forward_kl\), tuned \(sft\) read soft_t"),
        (changed("soft", verdicts=["correct"]) | changed("pairs", token_columns={"soft_targets": "soft"}),
         r"pairs: `token_columns.soft_targets: soft` says nothing of samples that are wrong, .* ask for `side: chosen` here"),
        (changed("soft", verdicts=["wrong"]), r"pairs: .* says nothing of samples that are correct, .* `verdicts` of soft, or"),
        (changed("teacher_says", verdicts=["correct"]), "on_policy: .* says nothing of samples that are wrong"),
        (changed("soft", verdicts=["wrong"]) | changed("groups", rewards={"correct": 1}),
         r"  - groups: .* says nothing of samples that are correct, .* `verdicts` of soft, or give them no reward"),
        (changed("soft", verdicts=["correct"]) | changed("groups", rewards={"correct": 1, "wrong": 1, "no_answer": 1}),
         r"  - groups: .* says nothing of samples that are wrong, no_answer, .* `verdicts` of soft, or give them no reward"),
        (changed("soft", verdicts=["correct"]) | changed("groups", rewards={"correct": 1, "wrong": -1}, both_sides=True, least=2),
         r"  - groups: .* says nothing of samples that are wrong, .* or ask for `side: chosen` here"),
        ({"early": {"do": "soft_targets", "of": "taught", "model": "teacher", "verdicts": ["correct"]}},
         "early: `verdicts` asks for samples that are correct, and those of taught have no verdicts: make it `of: taught_math`"),
        ({"early": {"do": "logps", "of": "traces", "model": "teacher", "verdicts": ["wrong", "error"]}},
         "samples that are wrong, error, and those of traces have no verdicts: make it `of: verified`"),
        ({"drawn": STEPS["own"], "early": {"do": "logps", "of": "drawn", "verdicts": ["wrong"]}},
         "and those of drawn have no verdicts: make it `of` a step `{do: verify, of: drawn}`, or leave `verdicts` out"),
        (changed("on_policy", token_columns={"teacher_logps": "student_said", "sampler_logps": "student_said"}),
         r"opd: on_policy_distillation .* `token_columns.teacher_logps: student_said` .* has those of base, the student, "
         r"so that all are 0: take a column of a step `logps` whose `model` is the teacher"),
        (changed("teacher_says", model="base"), "teacher_says` of on_policy has those of base, the student"),
        (changed("opd", objective={"name": "on_policy_distillation", "student": "policy"}) | changed("teacher_says", model="base")
         | changed("on_policy", token_columns={"teacher_logps": "teacher_says"}), "teacher_says` of on_policy has those of base"),
        (changed("soft", model="techer"), "soft: `model: techer` is no step; did you mean teacher"),
        (changed("soft", model="taught"), "soft: `model: taught` gives traces, and soft_targets takes model"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(steps, told):
    with pytest.raises(GraphError, match=told):
        graph(**steps)


def test_what_imitates_asks_for_right_samples_alone():
    """As in the guide: wrong ones without distributions are left out, and nothing was to be learnt from them."""
    filtered = changed("soft", verdicts=["correct"])
    for settings in ({}, {"rewards": {"correct": 1}}, {"least": 2}, {"both_sides": True, "token_columns": CHOSEN}):
        assert "kd" in graph(**filtered, **changed("groups", **settings)).steps


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (changed("soft", top_k=0), r"steps\.soft\.top_k"),
        (changed("teacher", init={"kind": "scratch"}), r"steps\.teacher\.init\.kind: there is no 'scratch'"),
        (
            changed("teacher", init={"kind": "arithmetic", "architecture": {"hidden_size": 100, "num_heads": 3}}),
            r"steps\.teacher\.init.*hidden_size 100 must be an even number for each of the 3 num_heads, such as 3 x 32 = 96",
        ),
        (
            changed("teacher", init={"kind": "arithmetic", "architecture": {"num_kv_heads": 2}}),
            r"steps\.teacher\.init.*num_heads 3 must be a multiple of num_kv_heads 2",
        ),
        (changed("kd", objective={"name": "js", "beta": 1}), "take forward_kl or reverse_kl"),
    ],
)
def test_settings_are_checked(steps, told):
    with pytest.raises(ConfigError, match=told):
        graph(**steps)


def saved(folder: Path, alphabet: str = "0123456789+= \n") -> str:
    save_scratch_model(Architecture(hidden_size=32, num_layers=1, num_heads=2), character_tokenizer(alphabet), folder)
    return str(folder)


def test_a_teacher_that_exists_is_looked_at_before_anything_starts(tmp_path: Path):
    """Not there; not a model; of another tokenizer, where it is to say something of the student's tokens."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"problem": "1+1", "answer": "2"}) + "\n")
    student = {"init": {"kind": "pretrained", "path": saved(tmp_path / "student")}}
    source = {"source": {"kind": "files", "paths": [str(problems)]}}

    def with_teacher(path: str) -> Any:
        teacher = {"do": "model", "init": {"kind": "pretrained", "path": path}}
        return config(student, source, teacher=teacher)

    preflight(with_teacher(saved(tmp_path / "teacher")))
    with pytest.raises(ModelError, match=r"steps\.teacher\.init\.path: .*holds no config\.json"):
        preflight(with_teacher(str(tmp_path)))
    with pytest.raises(ModelError, match=r"steps\.soft\.model: the model `teacher` .* What would fit"):
        preflight(with_teacher(saved(tmp_path / "other", "0123456789+=* \n")))
    asked = {"do": "model", "init": {"kind": "pretrained", "path": saved(tmp_path / "others", "0123456789+=* \n")}}
    for name, made in (("tuned", STEPS["tuned"]), ("mixed", {"do": "merge", "of": {"teacher": 1}})):
        steps = {"teacher": asked, name: made, "soft": STEPS["soft"] | {"model": name}}
        with pytest.raises(ModelError, match=r"steps\.soft\.model: the model `teacher` .* What would fit"):
            check_models_of_steps(config(student, source, **steps))
    soft = {"do": "soft_targets", "of": "taught_math", "model": "teacher", "top_k": 1000}
    teacher = {"do": "model", "init": {"kind": "pretrained", "path": saved(tmp_path / "same")}}
    with pytest.raises(ModelError, match=r"steps\.soft\.top_k: 1000 is more than the \d+ tokens of teacher"):
        check_models_of_steps(config(student, source, teacher=teacher, soft=soft))
    with pytest.raises(GraphError, match=r"teacher: init\.kind is `arithmetic`, which needs"):
        graph_of(config(student, source))


def test_a_teacher_that_ends_before_its_samples_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """By the tokens that someone has asked for; the default is no wish."""
    short = {"do": "model", "init": {"kind": "pretrained", "path": saved(tmp_path / "short")}}
    source = {"source": {"kind": "arithmetic"}}
    with caplog.at_level("INFO", "redi_ray"):
        for settings in ({}, {"max_tokens": 500}, {"max_tokens": 600}):
            caplog.clear()
            told = config({"init": short["init"]}, source, teacher=short, taught=STEPS["taught"] | settings)
            check_models_of_steps(told)
            assert ("steps.taught: max_tokens is 600; the positions of teacher" in caplog.text) == (
                600 in settings.values()
            )


def test_editing_the_teachers_folder_makes_what_it_has_said_stale(tmp_path: Path):
    """Its columns and what learns from them; of the student nothing."""
    path = Path(saved(tmp_path / "teacher"))
    teacher = {"do": "model", "init": {"kind": "pretrained", "path": str(path)}}
    told = config(teacher=teacher, soft=STEPS["soft"] | {"of": "verified"},
                  groups=STEPS["groups"] | {"of": "verified"}, pairs=STEPS["pairs"] | {"of": "verified"})  # fmt: skip

    def keys() -> dict[str, str | None]:
        return {state.step.name: state.key for state in states(graph_of(told), Run.of(told))}

    before = keys()
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    after = keys()
    moved = {name for name, key in after.items() if before[name] != key}
    assert {"teacher", "soft", "groups", "teacher_says"} <= moved
    assert not moved & {"base", "verified", "own_math"}


def test_what_stretches_the_student_leaves_teachers_as_they_are():
    """Scored, trained on from there, or merged; the student's own, and a config without such changes, are as ever."""
    stretched = {"overrides": {"rope_theta": 3e5, "max_position_embeddings": 4096, "dropout": True}}
    more = {
        "merged": {"do": "merge", "of": {"teacher": 1, "tuned": 1}},
        "mixed": {"do": "merge", "of": {"teacher": 1, "base": 1}},
        "of_merged": {"do": "logps", "of": "own_math", "model": "merged"},
        "of_mixed": {"do": "logps", "of": "own_math", "model": "mixed"},
        "own_says": {"do": "logps", "of": "own_math", "model": "base"},
    }
    found = graph_of(config(model={**WORLD["model"], **stretched}, **more))
    kept = {name: found[name].sections["model"].overrides for name in ("soft", "teacher_says", "tuned", "of_merged")}
    assert all(one.rope_theta is one.max_position_embeddings is None and one.dropout for one in kept.values())
    assert not [name for name in ("kd", "opd", "sft", "own_says", "of_mixed") if "model" in found[name].sections]
    assert not any("model" in step.sections for step in graph(**more))
