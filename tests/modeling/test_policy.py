"""A loaded policy computes what the Hugging Face model computes, for the architectures it accepts, and refuses the rest."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import VOCABULARY, tiny_config, tiny_model, tiny_policy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

from redi_ray.config.training import LoraSettings, ModelOverrides
from redi_ray.modeling.attention import pack_layout
from redi_ray.modeling.exact import check_exact
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.tokenizer import ModelError, character_tokenizer

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saves a randomly initialised model of a config, with weights large enough to make any mistake visible."""

    def save(config) -> str:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(3)
        folder = tmp_path_factory.mktemp(config.model_type)
        model.save_pretrained(folder)
        return str(folder)

    return save


def pack_of(lengths):
    """Random tokens laid out as `Policy.forward` takes them, every token but the first of a sequence scored."""
    torch.manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (sum(lengths),))
    positions = torch.cat([torch.arange(n) for n in lengths])
    scored = torch.nonzero(positions)[:, 0]
    return ids, positions, {"layout": pack_layout(lengths), "rows": scored - 1, "targets": ids[scored]}


def alone(model, ids, lengths):
    """Log-probs of each sequence on its own, by the model's own forward pass."""
    logps = []
    for part in ids.split(lengths):
        logits = model(input_ids=part[None], use_cache=False).logits[0, :-1].double()
        logps.append(logits.log_softmax(-1).gather(1, part[1:, None])[:, 0])
    return torch.cat(logps)


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        LlamaConfig(**SMALL),
        Qwen3Config(**SMALL, head_dim=8),
        MistralConfig(**SMALL, sliding_window=5),
        GraniteConfig(**SMALL, logits_scaling=4.0, attention_multiplier=0.3, residual_multiplier=0.5),
        CohereConfig(**SMALL, logit_scale=0.25),
        Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0, attn_logit_softcapping=None, sliding_window=5),
        GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    ],
    ids=lambda c: c.model_type,
)
@torch.no_grad()
def test_packed_logps_are_those_of_each_sequence_alone(saved, config):
    """Grouped heads, rotary embeddings, sliding windows shorter than a sequence, scaled and soft-capped logits."""
    path = saved(config)
    policy = load_policy(path, ModelOverrides(), dtype=torch.float64)
    policy.eval()
    lengths = [17, 16, 9, 9, 2]
    ids, positions, pack = pack_of(lengths)
    _, ours = policy(ids, positions, **pack)
    # Some norms compute in float32 whatever the model's type.
    torch.testing.assert_close(ours, alone(policy.model, ids, lengths), rtol=1e-6, atol=1e-6)
    own = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager").eval()
    torch.testing.assert_close(ours, alone(own, ids, lengths), rtol=1e-6, atol=1e-6)


def test_an_unknown_treatment_of_logits_is_noticed(monkeypatch):
    """A head that divides its logits in code, with nothing in the config that says so."""
    policy = tiny_policy()
    check_exact(policy)
    plain = type(policy.model).forward

    def scaled(self, *args, **kwargs):
        output = plain(self, *args, **kwargs)
        output.logits = output.logits / 3
        return output

    monkeypatch.setattr(type(policy.model), "forward", scaled)
    with pytest.raises(ValueError, match="differ from the model's own"):
        check_exact(policy)


def test_a_model_that_gives_no_numbers_is_named(tmp_path):
    """Weights with NaN, and finite ones that overflow."""
    model = tiny_policy().model
    for value, told in ((math.nan, r"its weights hold NaN or infinity, the first of them model\.norm\.weight"),
                        (3e38, r"its weights are finite and overflow in float32; take `precision: fp32`")):  # fmt: skip
        with torch.no_grad():
            model.model.norm.weight.fill_(value)
        model.save_pretrained(tmp_path / "broken")
        with pytest.raises(ModelError, match=f"broken: its log-probs are no finite numbers .*: {told}"):
            load_policy(str(tmp_path / "broken"), ModelOverrides())


def test_overrides(saved):
    path = saved(tiny_config())
    policy = load_policy(path, ModelOverrides(rope_theta=300_000.0, max_position_embeddings=32_768))
    config = policy.model.config
    assert (config.rope_parameters["rope_theta"], config.max_position_embeddings) == (300_000.0, 32_768)
    expected = 300_000.0 ** -(torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(policy.model.model.rotary_emb.inv_freq, expected)
    with pytest.raises(ValueError, match="rope_theta"):
        load_policy(saved(MambaConfig(vocab_size=VOCABULARY, hidden_size=32)), ModelOverrides(rope_theta=1e4))
    with pytest.raises(OSError):
        load_policy("/nowhere/at/all", ModelOverrides())


def test_weights_that_a_folder_lacks_are_not_made_up(saved, tmp_path):
    """transformers takes random ones for them, with a warning."""
    folder = saved(LlamaConfig(**SMALL))
    state = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    AutoConfig.from_pretrained(folder).save_pretrained(tmp_path)
    kept = {name: tensor for name, tensor in state.items() if "layers.1." not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 9 of the weights that its config asks for, such as model.layers.1."):
        load_policy(str(tmp_path), ModelOverrides())


def test_lora_starts_at_the_base_and_trains_only_adapters(saved):
    pytest.importorskip("peft")
    path = saved(tiny_config())
    base, adapted = (
        load_policy(path, ModelOverrides(lora=lora), dtype=torch.float64) for lora in (None, LoraSettings(rank=4))
    )
    ids, positions, pack = pack_of([9, 5])
    pack["coefficients"] = -torch.ones(len(pack["rows"]))
    torch.testing.assert_close(adapted(ids, positions, **pack)[1], base(ids, positions, **pack)[1])
    adapted(ids, positions, **pack)[0].backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in adapted.named_parameters() if "lora_" in name}
    assert len(trained) == 2 * 2 * 7, "two layers, A and B of each of the seven projections"
    with pytest.raises(ValueError, match="head is fused"):
        load_policy(saved(LlamaConfig(**SMALL)), ModelOverrides(lora=LoraSettings(target_modules=["lm_head"])))


def test_gradient_checkpointing_is_on_where_asked(saved):
    """And gives the same gradients; the layout reaches the recomputed attention too."""
    path = saved(tiny_config())
    grads = []
    for checkpointing in (False, True):
        policy = load_policy(path, ModelOverrides(), dtype=torch.float64, gradient_checkpointing=checkpointing)
        assert policy.model.is_gradient_checkpointing == checkpointing
        ids, positions, pack = pack_of([9, 5, 5])
        policy(ids, positions, **pack, coefficients=-torch.ones(len(pack["rows"])))[0].backward()
        grads.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


def test_dropout_of_the_config_is_off_unless_asked_for(saved, tmp_path):
    """GPT-2's is 0.1: scores in training mode are those of evaluation mode, and the export has the 0.1 again."""
    path = saved(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    ids, positions, pack = pack_of([20, 9])
    quiet = load_policy(path, ModelOverrides())
    first, second = (quiet(ids, positions, **pack)[1] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, quiet.eval()(ids, positions, **pack)[1])
    assert not quiet.train().is_random
    export_policy(quiet, tmp_path / "export", tokenizer=character_tokenizer("0123456789"))
    assert AutoConfig.from_pretrained(tmp_path / "export").resid_pdrop == 0.1
    noisy = load_policy(path, ModelOverrides(dropout=True))
    assert noisy.is_random
    assert not torch.equal(noisy(ids, positions, **pack)[1], noisy(ids, positions, **pack)[1])


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients(saved):
    path = saved(tiny_config())
    grads = []
    for compiled in (False, True):
        policy = load_policy(path, ModelOverrides(), gradient_checkpointing=True, compile=compiled)
        for lengths in ([9, 5, 5], [30, 2]):
            ids, positions, pack = pack_of(lengths)
            policy(ids, positions, **pack, coefficients=-torch.ones(len(pack["rows"])))[0].backward()
        grads.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_another_pack_is_no_reason_to_compile_again(saved):
    """Packs differ in how many sequences and buckets they have; guards on those would end in no compiled layer at all."""
    policy = load_policy(saved(tiny_config()), ModelOverrides(), compile=True)
    torch._dynamo.reset()
    graphs = []
    for lengths in ([9, 5, 5], [30, 2], [7], [9, 7, 7, 3], [30, 12, 5, 4, 3, 2, 2], [6, 2], [25, 16, 9]):
        ids, positions, pack = pack_of(lengths)
        policy(ids, positions, **pack, coefficients=-torch.ones(len(pack["rows"])))[0].backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[2], f"graphs after each pack: {graphs}"


def test_plain_use_of_the_model_still_works():
    """`generate` and padded batches go through transformers' own attention, masks included."""
    model = tiny_model().eval()
    ids = torch.randint(0, VOCABULARY, (1, 6))
    padded = torch.cat([torch.zeros(1, 3).long(), ids], dim=1)
    mask = torch.cat([torch.zeros(1, 3), torch.ones(1, 6)], dim=1).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        ours = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, 3:]
    torch.testing.assert_close(ours, expected)
