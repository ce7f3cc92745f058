"""What is exported is what was trained, for transformers as for whoever else reads the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import family
from tiny_models import tiny_policy
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from redi_ray.config.training import LoraSettings, ModelOverrides
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.tokenizer import CHAT_TEMPLATE, character_tokenizer, end_of_turn_ids

TOKENIZER = character_tokenizer("0123456789")
IDS = torch.arange(3, 33)[None]


def logits_of(policy: Policy) -> torch.Tensor:
    policy.eval()
    with torch.no_grad():
        return policy.model(IDS).logits


def logits_of_folder(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_logits_are_equal(tmp_path: Path, tied: bool) -> None:
    policy = tiny_policy(tied, torch.float32)
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    assert torch.equal(logits_of_folder(tmp_path / "export"), logits_of(policy))
    assert ("lm_head.weight" in load_file(tmp_path / "export" / "model.safetensors")) is not tied


def test_adapters_are_merged(tmp_path: Path) -> None:
    """The folder is a plain model: no adapter weights, the logits of base plus update."""
    policy = tiny_policy(True, torch.float32)
    before = logits_of(policy)
    add_lora(policy.model, LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    found = logits_of_folder(tmp_path / "export")
    assert not torch.allclose(found, before, atol=0.1)
    torch.testing.assert_close(found, logits_of(policy), atol=1e-4, rtol=1e-4)
    names = load_file(tmp_path / "export" / "model.safetensors")
    assert not [name for name in names if "lora" in name or "base_layer" in name]


def test_the_folder_is_complete(tmp_path: Path) -> None:
    """bf16 weights as asked for, the tokenizer with its template, end of turn among the end tokens, a card."""
    folder = tmp_path / "export"
    policy = tiny_policy(True, torch.float32)
    policy.model.generation_config.eos_token_id = 7
    export_policy(policy, folder, tokenizer=TOKENIZER, dtype=torch.bfloat16, name="my-run", facts={"objective": "redi"})
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["architectures"]) == ("bfloat16", ["Qwen2ForCausalLM"])
    assert "packed" not in json.dumps(config)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [TOKENIZER.eos_token_id, 7]
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHAT_TEMPLATE
    card = (folder / "README.md").read_text()
    assert "# my-run" in card
    assert "| objective | redi |" in card
    assert policy.model.generation_config.eos_token_id == 7  # the policy itself is left as it was
    assert next(policy.parameters()).dtype == torch.float32


def test_generation_ends_at_what_closes_a_turn(tmp_path: Path) -> None:
    """The template's token comes before the tokenizer's own, which ends a document."""
    tokenizer, policy = family("qwen-base"), tiny_policy(True, torch.float32)
    policy.model.generation_config.eos_token_id = [7]
    export_policy(policy, tmp_path / "export", tokenizer=tokenizer)
    told = json.loads((tmp_path / "export" / "generation_config.json").read_text())["eos_token_id"]
    assert told == [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id, 7]
    assert end_of_turn_ids(str(tmp_path / "export")) == set(told)


def test_an_older_export_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model-00001-of-00002.safetensors").write_bytes(b"old")
    export_policy(tiny_policy(True, torch.float32), tmp_path / "export", tokenizer=TOKENIZER)
    assert [p.name for p in (tmp_path / "export").glob("*.safetensors")] == ["model.safetensors"]
    assert not list(tmp_path.glob("*.part"))


SAMPLED = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}


@pytest.mark.parametrize(
    ("loaded", "saved"),
    [
        (SAMPLED | {"do_sample": True}, SAMPLED | {"do_sample": True}),
        (SAMPLED, SAMPLED | {"do_sample": True}),
        ({"temperature": 0.6, "do_sample": False}, {"temperature": 0.6, "do_sample": True}),
        ({"temperature": 0.0, "do_sample": False, "top_p": 0.9}, {}),  # greedy; with `do_sample` nothing would be generated
        ({"eos_token_id": "2"}, {}),
        ({"early_stopping": True, "length_penalty": 2.0}, {}),
        ({"num_beams": 3, "early_stopping": True}, {"num_beams": 3, "early_stopping": True}),
        ({"output_scores": True, "max_length": 4096}, {"max_length": 4096}),
        ({"pad_token_id": -1, "temperature": 0.6}, {"temperature": 0.6, "do_sample": True}),
        ({"min_p": 0.1, "use_cache": False, "cache_implementation": "static", "repetition_penalty": 1.1},
         {"min_p": 0.1, "do_sample": True, "cache_implementation": "static", "repetition_penalty": 1.1}),
    ],
)  # fmt: skip
def test_a_generation_config_that_is_only_loaded_does_not_end_the_run(
    tmp_path: Path, loaded: dict, saved: dict
) -> None:
    """transformers loads all of these and saves but the first and the beams: the export keeps what goes together."""
    (tmp_path / "generation_config.json").write_text(json.dumps(loaded | {"bos_token_id": 5}))
    policy = tiny_policy(True, torch.float32)
    policy.model.generation_config = GenerationConfig.from_pretrained(tmp_path)
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    found = json.loads((tmp_path / "export" / "generation_config.json").read_text())
    ends = {"eos_token_id": [TOKENIZER.eos_token_id], "pad_token_id": TOKENIZER.pad_token_id, "bos_token_id": 5}
    assert {name: value for name, value in found.items() if name != "transformers_version"} == saved | ends


def test_generation_parameters_in_the_models_own_config_do_not_end_the_run(tmp_path: Path) -> None:
    """As models of years ago have them; transformers refuses to save such a config."""
    policy = tiny_policy(True, torch.float32)
    export_policy(policy, tmp_path / "old", tokenizer=TOKENIZER)
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "generation_config.json").unlink()
    (tmp_path / "old" / "config.json").write_text(json.dumps(config | {"temperature": 0.5, "do_sample": True}))
    policy = load_policy(str(tmp_path / "old"), ModelOverrides())
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    assert "temperature" not in json.loads((tmp_path / "export" / "config.json").read_text())
    assert json.loads((tmp_path / "export" / "generation_config.json").read_text())["temperature"] == 0.5
    assert torch.equal(logits_of_folder(tmp_path / "export"), logits_of(policy))
