"""Configs: every shipped one loads, mistakes are named with their place and the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from redi_ray.config.described import described_schema
from redi_ray.config.load import ConfigError, dump_config, load_config, parse_config

CONFIGS = sorted(path for path in (Path(__file__).parents[2] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_survive_a_round_trip(path: Path):
    config = load_config(str(path))
    assert parse_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sft.train.epoch=2", "sft.train.epoch: unknown key. Did you mean `epochs`? Valid keys: learning_rate,"),
        ("redi.arms.x.objective={name: redi, alfa: 1}", "alfa: unknown key. Did you mean `alpha`? Valid keys: name,"),
        ("generat={}", "generat: unknown key. Did you mean `generate`?"),
        ("model.init.architecture.width=3", "model.init.architecture.width: unknown key"),
        (
            "redi.arms.x.objective={name: redo}",
            "redi.arms.x.objective.name: there is no 'redo'. Did you mean `redi`? It is one of advantage,",
        ),
        ("redi.arms.x.objective={name: redi, alpha: -1}", "alpha must be >= 0, got -1"),
        ("redi.arms.sft={}", "arm 'sft': the name is that of the section `sft`; give the arm another one"),
        ("redi.arms.dev={}", "arm 'dev': the name is that of the run's own development problems"),
        (
            "redi.arms.x.train={learning_rat: 1}",
            "arm 'x': train.learning_rat: unknown key. Did you mean `learning_rate`?",
        ),
        ("sft.train.epochs=[", "override 'sft.train.epochs=[': what stands behind the = is not valid YAML"),
        (f"steps.{'a' * 101}={{do: verify, of: traces}}", "a name begins with a letter and holds at most 100 letters"),
        ("problems={source: {kind: mix, of: [a]}, max_problems: 5}", "problems.max_problems counts rows of one source"),
        ("sft.train.adam_beta2=1", "adam_beta2 must be in [0, 1), got 1"),
        ("sft.train.adam_eps=0", "adam_eps must be > 0, got 0"),
        ("model.overrides.lora={dropout: 1}", "dropout must be in [0, 1), got 1"),
        ("sft.train.learning_rate=fast", "sft.train.learning_rate: Input should be a valid number"),
        ("generate={kind: import}", "problems.source holds no traces"),
        ("verify.votes=[label]", "verify.votes must hold math_verify when traces are sampled"),
        ("generate.prompt={prefix: ''}", "differs from model.prompt.prefix"),
        (
            "problems.source={kind: files, paths: [x]}",
            "`arithmetic`, the built-in world, but problems.source is another",
        ),
        ("resources.trainer.num_workers=64", "larger than sft.train.batch_size"),
        (
            "resources.trainer.num_workers=[1, 64]",
            "resources.trainer.num_workers 64 is larger than sft.train.batch_size",
        ),
        ("resources.trainer.num_workers=[2, 1]", "num_workers must be >= 1 and [min, max] in order, got (2, 1)"),
        ("resources.trainer.num_workers=[1, 2, 3]", "resources.trainer.num_workers"),
        (
            "resources.trainer.max_preemption_failures=-2",
            "max_preemption_failures must be >= 0, or -1 for any number, got -2",
        ),
        ("resources.trainer.preemption_grace_s=-1", "preemption_grace_s must be >= 0 seconds, got -1"),
        (
            "resources.trainer.resize_check_s=.inf",
            "resources.trainer.resize_check_s: Input should be a finite number (got inf)",
        ),
        ("model.prompt.template=hello", "template must contain {problem}"),
        ("problems.dev={share: 0.1}", "the built-in world has problems.source.num_dev"),
        ("model.init.train.probe={every: 10}", "the built-in base model is not measured"),
        ("sft.train.probe={every: 0}", "every must be >= 1, got 0"),
    ],
)
def test_mistakes_are_named(override: str, told: str):
    with pytest.raises(ConfigError) as caught:
        load_config("configs/demo.yaml", [override])
    assert told in str(caught.value)


def test_a_probe_needs_development_problems():
    """Whatever the source, and also where one arm alone has it."""
    probe = "redi.arms.redi.train={probe: {every: 5}}"
    assert load_config("configs/demo.yaml", [probe]).probes == ["redi"]
    with pytest.raises(ConfigError, match=r"a probe is set for redi, but problems.source.num_dev is 0"):
        load_config("configs/demo.yaml", [probe, "problems.source.num_dev=0"])
    with pytest.raises(ConfigError, match=r"a probe is set for sft, but problems.dev.share is 0"):
        load_config("configs/gsm8k_traces.yaml", ["sft.train.probe={every: 5}"])
    shared = ["sft.train.probe={every: 5}", "problems.dev.share=0.05"]
    assert load_config("configs/gsm8k_traces.yaml", shared).probes == ["sft"]


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError, match=r"2 error\(s\)"):
        load_config("configs/demo.yaml", ["generate.temperature=-1", "sft.train.epoch=1"])


@pytest.mark.parametrize(
    "override",
    [
        "steps.kd={do: train, from: base, on: curated, objective: {name: redi, alpha: -1}}",
        "curate.diversity={problems: 0}",
    ],
)
def test_what_was_found_wrong_is_not_found_missing(override: str):
    with pytest.raises(ConfigError, match=r"1 error\(s\)") as error:
        load_config("configs/demo.yaml", [override])
    assert "must be set" not in str(error.value)


def test_scientific_notation_without_a_dot_is_a_number():
    """YAML 1.1 reads 5e-5 as text; a learning rate must not fall over that."""
    assert load_config("configs/demo.yaml", ["sft.train.learning_rate=5e-5"]).sft.train.learning_rate == 5e-5


def test_arms_inherit_the_shared_settings():
    config = load_config("configs/demo.yaml", ["redi.arms.redi.train={learning_rate: 1e-6}"])
    assert config.redi.settings("redi").learning_rate == 1e-6
    assert config.redi.settings("redi").batch_size == config.redi.train.batch_size
    assert config.redi.settings("alpha0") == config.redi.train


def test_every_field_is_described_in_the_schema():
    """The schema is what editors show, and the reference."""
    schema = described_schema()
    bare = [
        f"{title}.{name}"
        for title, model in {"ExperimentConfig": schema, **schema["$defs"]}.items()
        for name, field in model.get("properties", {}).items()
        if "description" not in field and name not in ("kind", "name")
    ]
    assert not bare


def test_descriptions_are_those_below_the_fields():
    """Of an alias, of a class's fields that it has from another, and of a dataclass."""
    schema = described_schema()["$defs"]
    assert schema["TrainStep"]["properties"]["from"]["description"].startswith("The model that it starts from")
    assert schema["ArithmeticSource"]["properties"]["num_problems"]["description"]  # of the class that it is made from
    assert schema["RediObjective"]["properties"]["alpha"]["description"]


def test_missing_file_and_bad_yaml_are_clear(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config(str(tmp_path / "list.yaml"))
