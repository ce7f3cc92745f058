"""A model that would end the run in a worker is found in seconds, all its faults at once, and no sound one is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_runs import ALPHABET
from transformers import AutoModelForCausalLM

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import LoraSettings, ModelOverrides, TrainSettings
from redi_ray.errors import EXIT_BAD_INPUT
from redi_ray.modeling.limits import Bound, count_parameters, length_problems, longest_sequence
from redi_ray.modeling.preflight import student_problems
from redi_ray.modeling.tokenizer import ModelError, character_tokenizer, check_model

TRAININGS = {"sft.train": TrainSettings(), "redi.train": TrainSettings()}
SIZES = {
    "vocab_size": 600, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 10, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 599,
}  # fmt: skip
LORA = ModelOverrides(lora=LoraSettings(rank=2))


def save(folder: Path, kind: str = "Llama", **changes: Any) -> str:
    """A tiny model of this architecture, with our tokenizer."""
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    character_tokenizer(ALPHABET + " \n").save_pretrained(folder)
    return str(folder)


def problems(path: str, overrides: ModelOverrides | None = None, **prompt: Any) -> list[str]:
    return student_problems(path, overrides or ModelOverrides(), PromptSettings(**prompt), TRAININGS)


@pytest.mark.parametrize("overrides", [ModelOverrides(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {}), ("Qwen3", {"head_dim": 16}), ("Gemma3Text", {"head_dim": 16}), ("Cohere", {}), ("OPT", {"ffn_dim": 96}),
        ("Granite", {}), ("Phi", {}), ("Mamba", {}), ("Mixtral", {"num_local_experts": 4}),
        ("GPTNeoX", {"num_key_value_heads": 4}),
        ("Qwen3Moe", {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}),
    ],
)  # fmt: skip
def test_a_sound_model_passes(tmp_path: Path, kind: str, changes: dict, overrides: ModelOverrides) -> None:
    assert problems(save(tmp_path, kind, **changes), overrides, system="Think.") == []


@pytest.mark.parametrize(
    ("kind", "overrides", "told"),
    [
        ("Bert", ModelOverrides(), "cannot be trained: it looks ahead"),
        ("Llama", ModelOverrides(lora=LoraSettings(target_modules=["q_prj"])), r"cannot be trained: model.overrides.lora.*q_prj"),
        ("Mamba", ModelOverrides(rope_theta=1e6), "mamba has no single rope_theta"),
        ("OPT", ModelOverrides(max_position_embeddings=4096), "cannot be trained: .*(mismatch|size)"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_told(tmp_path: Path, kind: str, overrides: ModelOverrides, told: str) -> None:
    found = problems(save(tmp_path, kind, ffn_dim=96), overrides)
    assert re.search(told, found[-1]), found
    assert str(tmp_path) in found[-1] or "rope_theta" in found[-1]


def edit(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def template(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None


NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
USERS = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "b.safetensors"}})
            )
            and (folder / "model.safetensors").rename(folder / "b.safetensors"),
            "lacks model-00001-of-00002.safetensors",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink()
            or (folder / "model.safetensors.index.json").write_text('{"weight_map": {'),
            "model.init.path: .*model.safetensors.index.json is no index of weights .*fetch or copy it again",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes((9).to_bytes(8, "little") + b"no header"),
            "model.init.path: .*model.safetensors is no safetensors file; fetch or copy it again",
        ),
        (edit("config.json", lambda c: c.update(quantization_config={})), "model.init.path: .*cannot be loaded: ValueError"),
        (edit("config.json", lambda c: c.update(vocab_size=20)), r"larger than the model: .* beyond the 20 rows"),
        (template(NO_SYSTEM + USERS), "refuses a chat: .*System role not supported.*set `prompt.system` to null"),
        (template(USERS), "leaves out the system message"),
        (template("{{ messages[0].content }}"), "leaves out what the user says"),
        (
            lambda folder: (folder / "generation_config.json").write_text('{"num_return_sequences": 3}'),
            "generation_config.json is not one that transformers reads",
        ),
        (
            lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": [2,'),
            "model.init.path: .*generation_config.json is not one that transformers reads: Expecting value.*fetch it again",
        ),
        (
            edit("config.json", lambda c: c.update(max_position_embeddings=4)),
            "model.init.path: its positions end at 4, and a prompt has .* before its problem .*overrides.max_position_embeddings",
        ),
        (edit("config.json", lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4})), r"quantised \(gptq\)"),
        (edit("config.json", lambda c: c.update(rope_parameters={"rope_type": "none_such"})), "config cannot be used.*none_such"),
        (edit("config.json", lambda c: c.update(model_type="t5")), "t5 is no decoder of text"),
        (edit("config.json", lambda c: c.update(intermediate_size=128)), r"30 weights of another shape.*\[64, 96\] for"),
        (edit("config.json", lambda c: c.update(num_hidden_layers=12)), "lacks 18 of the weights .*layers.10.*would be random"),
        (
            lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "model.safetensors is a pointer of git-lfs",
        ),
        (
            lambda folder: (folder / "model.safetensors").open("r+b").truncate(200_000),
            "is cut off: it has 200,000 bytes",
        ),
        (
            lambda folder: (folder / "old").mkdir() or (folder / "model.safetensors").rename(folder / "old/model.safetensors"),
            "holds no weights",
        ),
    ],
    ids=[
        *("weights", "shard", "cut-index", "no-header", "no-method"),
        *("vocabulary", "system", "system-lost", "problem-lost", "generation", "cut-generation"),
        *("positions", "quantised", "rope", "no-decoder", "shapes", "layers", "lfs", "cut-off", "elsewhere"),
    ],
)  # fmt: skip
def test_what_is_missing_or_contradicts_is_told(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    path = save(tmp_path)
    assert problems(path, system="Think.") == []
    spoil(tmp_path)
    from redi_ray.modeling import tokenizer

    tokenizer.load_tokenizer.cache_clear()
    found = problems(path, system="Think.")
    assert any(re.search(told, line) for line in found), found
    assert len(found) <= 2, found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer.json", "{}", "KeyError: 'added_tokens'"),
        ("config.json", "[]", "must be a mapping"),
        ("config.json", '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 3}', "not a multiple of"),
        ("config.json", '{"model_type": "llama", "hidden_size": "64"}', "expected int, got str"),
    ],
)
def test_files_that_transformers_chokes_on_are_told(tmp_path: Path, name: str, content: str, told: str) -> None:
    """Whatever it raises: a traceback would not say which model of the config it is."""
    path = save(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=f"(?s)model.init.path: {path} cannot be loaded: .*{told}"):
        check_model("model.init.path", path)


def test_folders_of_adapters_and_of_other_programs_are_told(tmp_path: Path) -> None:
    for name, told in (("adapter_config.json", "adapters alone: merge them"), ("model-Q4.gguf", "GGUF files")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("{}")
        with pytest.raises(ModelError, match=f"holds no config.json.*{told}"):
            check_model("model.init.path", str(tmp_path / name))


OWN_CONFIG = "from transformers import LlamaConfig\n\n\nclass Own(LlamaConfig):\n    model_type = 'own'\n"
OWN_MODEL = (
    "from transformers import LlamaForCausalLM\nfrom .own_config import Own\n\n\n"
    "class OwnModel(LlamaForCausalLM):\n    config_class = Own\n"
)


@pytest.mark.parametrize(
    ("code", "named", "trusted", "told"),
    [
        (OWN_MODEL, "AutoModelForCausalLM", True, None),
        (OWN_MODEL, "AutoModelForCausalLM", False, "set model.overrides.trust_remote_code: true"),
        (OWN_MODEL, "AutoModel", True, "has no decoder of text"),
        ("import no_such_package\n" + OWN_MODEL, "AutoModelForCausalLM", True, "no_such_package"),
        (None, "AutoModelForCausalLM", True, "own_model.py"),
    ],
)
def test_code_that_came_with_the_model_is_imported(
    tmp_path: Path, code: str | None, named: str, trusted: bool, told: str | None
) -> None:
    path = save(tmp_path)
    (tmp_path / "own_config.py").write_text(OWN_CONFIG)
    if code is not None:
        (tmp_path / "own_model.py").write_text(code)
    shipped = {"AutoConfig": "own_config.Own", named: "own_model.OwnModel"}
    edit("config.json", lambda c: c.update(model_type="own", auto_map=shipped))(tmp_path)
    found = problems(path, ModelOverrides(trust_remote_code=trusted))
    assert len(found) == (told is not None), found
    assert told is None or re.search(f"config cannot be used: .*{told}", found[0]), found


def test_a_padding_token_without_a_vector_is_no_fault(tmp_path: Path) -> None:
    """Packs have no padding. Added to Llama's tokenizers by many."""
    mine = character_tokenizer(ALPHABET + " \n")
    path = save(tmp_path, vocab_size=len(mine))
    mine.add_special_tokens({"pad_token": "<pad>"})
    mine.save_pretrained(tmp_path)
    assert problems(path) == []


@pytest.mark.parametrize(
    ("settings", "bound", "refused"),
    [
        (TrainSettings(), None, False),  # nobody has chosen a length: the positions are the limit
        (TrainSettings(), Bound(19800, "curate", chosen=False), False),
        (TrainSettings(), Bound(5000, "curate", chosen=True), True),
        (TrainSettings(), Bound(900, "curate", chosen=True), False),
        (TrainSettings(max_length=8192), None, True),
        (TrainSettings(max_length=8192, on_too_long="drop"), None, False),
        (TrainSettings(max_length=8192), Bound(4000, "curate", chosen=True), False),
        (TrainSettings(max_length=4096), Bound(19800, "curate", chosen=False), False),
    ],
)
def test_lengths_are_refused_where_someone_has_chosen_them(
    settings: TrainSettings, bound: Bound | None, refused: bool
) -> None:
    found = length_problems(4096, 20, {"sft.train": settings}, bound)
    assert bool(found) == refused
    assert not found or "model's positions end at 4096" in found[0]


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 64),
        ({"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4}, 128),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8, "rope_theta": 1e4,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0}, 64),
    ],
)  # fmt: skip
def test_how_far_positions_reach(rope: dict, expected: int) -> None:
    assert longest_sequence(transformers.LlamaConfig(max_position_embeddings=64, rope_parameters=rope)) == expected


def test_the_command_tells_all_findings_before_ray_starts(tmp_path: Path) -> None:
    """With exit code 2, for a config whose model has two faults and whose lengths do not fit it."""
    from typer.testing import CliRunner

    from redi_ray.cli.app import app

    path = save(tmp_path / "model", vocab_size=20)
    changes = [f"model.init={{kind: pretrained, path: {path}}}", "generate.model=base", f"storage.root={tmp_path}/runs"]
    told = CliRunner().invoke(
        app, ["generate", "configs/demo.yaml", *changes, "model.overrides.lora={target_modules: [nope]}"]
    )
    assert told.exit_code == EXIT_BAD_INPUT, told.output
    for part in ("beyond the 20 rows", "max_length is 256", "nope"):
        assert part in told.output, told.output
    assert len(told.output.split("do not fit:")[1].strip().splitlines()) == 4, told.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_are_counted_by_the_files(tmp_path: Path, dtype: str) -> None:
    """Within the header of the file, which weighs in a model as small as this one; a copy in another form, and checkpoints
    that were left in a folder below, are not read."""
    model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SIZES), dtype=getattr(torch, dtype))
    for folder in (tmp_path, tmp_path / "checkpoint-500"):
        model.save_pretrained(folder)
    (tmp_path / "consolidated.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes())
    assert count_parameters(str(tmp_path)) == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.05)
    assert count_parameters("some/name") is None
