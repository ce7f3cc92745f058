"""A reward model's folder says the same numbers to us, to transformers' classification classes and to vLLM's pooling runner."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from redi_ray.config.reward_objectives import OutcomeBceObjective, ValueHead
from redi_ray.config.training import LoraSettings, ModelOverrides
from redi_ray.modeling.attention import pack_layout
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.rewards import RewardPolicy, finish_config, load_reward_policy, record_values
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.text.templates import closing_id

TOKENIZER = character_tokenizer("0123456789")
CLOSING = closing_id(TOKENIZER)
NORMAL = OutcomeBceObjective(head_init="normal")
LENGTHS = (9, 4, 17, 6)


@dataclass
class Small:
    """A model of a few weights; the engine runs no heads below 32 on CPUs."""

    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 2
    num_kv_heads: int = 2
    intermediate_size: int = 128
    max_position_embeddings: int = 128
    seed: int = 0


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model's folder."""
    folder = tmp_path_factory.mktemp("start") / "model"
    torch.manual_seed(0)
    save_scratch_model(Small(), TOKENIZER, folder)
    return str(folder)


def texts() -> list[Tensor]:
    """Conversations as they are scored: the last token is the one that closes a turn."""
    draw = torch.Generator().manual_seed(3)
    return [
        torch.cat([torch.randint(8, len(TOKENIZER), (n - 1,), generator=draw), torch.tensor([CLOSING])])
        for n in LENGTHS
    ]


@torch.no_grad()
def packed(policy: RewardPolicy) -> Tensor:
    """The value at the last token of each text, all in one pack."""
    policy.eval()
    ends = torch.tensor(np.cumsum(LENGTHS)) - 1
    positions = torch.cat([torch.arange(n) for n in LENGTHS])
    return policy(
        torch.cat(texts()), positions, layout=pack_layout(LENGTHS), rows=ends - 1, targets=torch.zeros_like(ends)
    )[1]


def trained(start: str, **overrides: LoraSettings) -> RewardPolicy:
    """A head and, where there are some, adapters that are not where they began."""
    policy = load_reward_policy(start, ModelOverrides(**overrides), NORMAL)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    record_values(policy.model.config, "outcome_bce", "sigmoid", at_last=True)
    return policy


@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "lora"])
def test_transformers_classification_says_the_same(start: str, tmp_path: Path, adapters: bool) -> None:
    """Over a padded batch, which transformers reads at the last token that is no padding."""
    policy = trained(start, **({"lora": LoraSettings(rank=2)} if adapters else {}))
    expected = packed(policy)
    assert expected.std() > 0.01
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").eval()
    pad = model.config.pad_token_id
    assert pad != CLOSING
    rows = torch.nn.utils.rnn.pad_sequence(texts(), batch_first=True, padding_value=pad)
    with torch.no_grad():
        found = model(input_ids=rows, attention_mask=(rows != pad).long()).logits
    assert found.shape == (len(LENGTHS), 1)
    torch.testing.assert_close(found[:, 0], expected, atol=1e-5, rtol=1e-4)
    weights = load_file(tmp_path / "export" / "model.safetensors")
    assert weights["score.weight"].shape == (1, Small.hidden_size)
    assert not [name for name in weights if "lm_head" in name or "lora" in name]
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["redi_reward"] == {"objective": "outcome_bce", "link": "sigmoid", "at": "last"}
    assert "text-classification" in (tmp_path / "export" / "README.md").read_text()
    torch.testing.assert_close(packed(load_reward_policy(str(tmp_path / "export"), ModelOverrides())), expected)


VLLM = """
import json, sys
from vllm import LLM
llm = LLM(model=sys.argv[1], runner="pooling", dtype="float32", enforce_eager=True, max_model_len=64)
from vllm import PoolingParams
ids = json.loads(sys.argv[2])
asked = [{"prompt_token_ids": row} for row in ids]
found = llm.classify(asked, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
print("FOUND", json.dumps([one.outputs.probs for one in found]))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_vllm_pooling_says_the_same(start: str, tmp_path: Path) -> None:
    policy = trained(start)
    export_policy(policy, tmp_path / "export", tokenizer=TOKENIZER)
    script = tmp_path / "ask.py"
    script.write_text(VLLM)
    said = run(
        "python", str(script), str(tmp_path / "export"), json.dumps([one.tolist() for one in texts()]),
        environment={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **os.environ},
    )  # fmt: skip
    line = next(line for line in said.splitlines() if line.startswith("FOUND"))
    found = torch.tensor(json.loads(line.removeprefix("FOUND")))[:, 0]
    torch.testing.assert_close(found, packed(policy), atol=1e-4, rtol=1e-3)


def test_a_head_starts_at_zero_or_the_same_everywhere(start: str) -> None:
    assert not load_reward_policy(start, ModelOverrides(), ValueHead()).model.score.weight.any()
    one, other = (load_reward_policy(start, ModelOverrides(), NORMAL).model.score.weight for _ in range(2))
    assert one.equal(other)
    assert 0.5 < float(one.norm()) < 1.5


def test_a_language_model_is_no_reward_model(start: str) -> None:
    with pytest.raises(ValueError, match=r"language model and no reward model"):
        load_reward_policy(start, ModelOverrides())


def test_the_filling_token_is_never_the_closing_one(start: str) -> None:
    """transformers would take the value in front of the end of turn."""
    config = load_reward_policy(start, ModelOverrides(), ValueHead()).model.config
    tokenizer = character_tokenizer("0123456789")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(CLOSING)
    finish_config(config, tokenizer)
    assert config.pad_token_id != CLOSING
