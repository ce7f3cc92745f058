"""The same pairs, model and number of steps through this core and through TRL's trainers, side by side.

Work: a Qwen2 (4 layers x 256, vocabulary 32,000, random weights) on 2 CPU threads without gradient checkpointing, in
float32 and then, in a second round of the same arms, with bfloat16 products over float32 master weights; pairs with
lognormal lengths (median 256, sigma 0.7, at most 1,024 tokens); 4 pairs a step; AdamW with clipping. Tokens are those of
both sides, prompt included, padding excluded. Memory is the peak during training minus what was resident before it,
optimizer state included. Arms, each in its own process:

    redi, simpo     this core: REDI, and TRL's very loss for comparison; packs of up to 2,048 tokens
    sft_redi        this core, SFT and REDI steps in turn over the same sequences: what REDI costs beside SFT
    trl_cpo         TRL's reference-free preference trainer (`trl.experimental.cpo`) with the SimPO loss
    trl_dpo         TRL's DPO trainer

    python benchmarks/train_throughput.py [--quick] [--repeats N]

TRL is no dependency of the project: `pip install --no-deps trl==1.16.0 accelerate`. Last line: a JSON object.
`pack_fill` is tokens over the token budget of the packs, at 32 pairs a step and the same 2,048 tokens to a pack.
`matmul_share` is the multiplications that REDI's step cannot do without (6 per weight and token, the head's over scored
tokens only) over what the faster library's float32 product reaches here: at 1 no code could be faster in that precision.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from typing import Any, Literal

import numpy as np
import torch
from arms import Usage, measured, run_arm
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from redi_ray.config.objectives import Objective, RediObjective, SftObjective, SimpoObjective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.attention import NAME
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.products import matmul
from redi_ray.train.batches import BatchPlan, plan_batches
from redi_ray.train.optim import make_optimizer
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward

VOCABULARY, LONGEST, PAIRS_PER_STEP, PROMPT = 32_000, 1024, 4, 24
TOKENS_PER_PACK = 2048
EOS = 0
Precision = Literal["fp32", "bf16"]


def make_pairs(count: int, seed: int = 0) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, chosen, rejected) token ids; completions end with EOS."""
    rng = np.random.default_rng(seed)

    def completion() -> list[int]:
        length = int(np.clip(np.exp(rng.normal(np.log(256), 0.7)), PROMPT + 8, LONGEST)) - PROMPT
        return [*rng.integers(1, VOCABULARY, length - 1).tolist(), EOS]

    return [(rng.integers(1, VOCABULARY, PROMPT).tolist(), completion(), completion()) for _ in range(count)]


def make_store(count: int, paired: bool = True) -> SequenceStore:
    """As pairs, or every side as an example of its own."""
    records = []
    for i, (prompt, *sides) in enumerate(make_pairs(count)):
        for j, side in enumerate(sides):
            group, sign = (i, 1 - 2 * j) if paired else (2 * i + j, 1)
            records.append(SequenceRecord(group, sign, prompt + side, PROMPT))
    return SequenceStore.from_records(records)


def make_model(attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2 * LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    config._attn_implementation = attention
    return Qwen2ForCausalLM(config)


def settings_of(groups: int) -> TrainSettings:
    return TrainSettings(batch_size=groups, tokens_per_pack=TOKENS_PER_PACK, learning_rate=1e-6)


def ours_step(
    policy: Policy, optimizer: torch.optim.Optimizer, plan: BatchPlan, step: int, objective: Objective
) -> float:
    """One optimizer step; returns the tokens it read."""
    result = forward_backward(policy, plan.store, plan[step], objective, progress=0.0, settings=plan.settings)
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return result.metrics["total_tokens"]


def run_ours(objective: Objective, pairs: int, precision: Precision) -> dict[str, float]:
    policy = Policy(make_model(NAME)).train()
    shard_policy(policy, world_size=1, precision=precision)
    optimizer = make_optimizer(policy, settings_of(PAIRS_PER_STEP))
    plan = plan_batches(make_store(pairs), settings_of(PAIRS_PER_STEP), 1, objective)
    with measured() as usage:
        tokens = sum(ours_step(policy, optimizer, plan, step, objective) for step in range(plan.total_steps))
    return summary(tokens, usage)


def run_sft_redi(pairs: int) -> dict[str, float]:
    """The same sequences as pairs under REDI and as examples under SFT, step by step in turn -> REDI's speed over SFT's."""
    policy = Policy(make_model(NAME)).train()
    optimizer = make_optimizer(policy, settings_of(PAIRS_PER_STEP))
    arms: list[tuple[Objective, BatchPlan]] = []
    for objective, paired in ((SftObjective(), False), (RediObjective(), True)):
        groups = PAIRS_PER_STEP * (1 if paired else 2)
        arms.append((objective, plan_batches(make_store(pairs, paired), settings_of(groups), 1, objective)))
    speeds: dict[str, list[float]] = {"sft": [], "redi": []}
    for step in range(arms[0][1].total_steps):
        for objective, plan in arms:
            start = time.perf_counter()
            tokens = ours_step(policy, optimizer, plan, step, objective)
            speeds[objective.name].append(tokens / (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in speeds.items()}  # the first warms up


def run_trl(trainer_name: str, pairs: int, precision: Precision) -> dict[str, float]:
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    tokenizer = Tokenizer(WordLevel({"</s>": EOS} | {f"w{i}": i for i in range(1, VOCABULARY)}, unk_token="</s>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")

    def text(ids: list[int]) -> str:
        return "".join(f" w{i}" for i in ids if i != EOS)

    columns = zip(*make_pairs(pairs), strict=True)
    rows = {
        name: [text(ids) for ids in column]
        for name, column in zip(("prompt", "chosen", "rejected"), columns, strict=True)
    }
    usage: list[Usage] = []

    class Meter(TrainerCallback):
        """Measures from the first step's beginning to the end of training."""

        def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
            self.block = measured()
            usage.append(self.block.__enter__())

        def on_train_end(self, *_args: Any, **_kwargs: Any) -> None:
            self.block.__exit__(None, None, None)

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": PAIRS_PER_STEP,
            "num_train_epochs": 1,
            "max_length": LONGEST,
            "learning_rate": 1e-6,
            "use_cpu": True,
            "bf16": precision == "bf16",
            "gradient_checkpointing": False,
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        model, dataset = make_model("sdpa"), Dataset.from_dict(rows)
        arguments: dict[str, Any] = {"processing_class": fast, "train_dataset": dataset, "callbacks": [Meter()]}
        if trainer_name == "cpo":
            from trl.experimental.cpo import CPOConfig, CPOTrainer

            config = CPOConfig(loss_type="simpo", cpo_alpha=0.0, **options)
            trainer = CPOTrainer(model=model, args=config, **arguments)
        else:
            from trl import DPOConfig, DPOTrainer

            trainer = DPOTrainer(model=model, ref_model=make_model("sdpa"), args=DPOConfig(**options), **arguments)
        trainer.train()
    return summary(float(make_store(pairs).lengths.sum()), usage[0])


def summary(tokens: float, usage: Usage) -> dict[str, float]:
    return {
        "tokens_per_s": tokens / usage.seconds,
        "tokens_per_cpu_s": tokens / usage.cpu_seconds,
        "added_gb": usage.added_bytes / 1e9,
    }


def pack_fill() -> float:
    """Tokens over token budget of the packs, over steps of 32 pairs of the same lengths."""
    plan = BatchPlan(make_store(320), settings_of(32), 1)
    steps = [plan[step] for step in range(plan.total_steps)]
    packs = sum(len(packs) for step in steps for packs in step.packs_of_rank)
    return sum(step.tokens for step in steps) / (TOKENS_PER_PACK * packs)


def matmul_share(tokens_per_s: float, pairs: int) -> float:
    """The step's own multiplications per second over those of the core's float32 product on the model's MLP shape."""
    store, model = make_store(pairs), make_model(NAME)
    scored = float(store.scored.sum() / store.lengths.sum())
    layers = sum(p.numel() for name, p in model.named_parameters() if "proj" in name)
    needed = 6 * (layers + scored * model.get_input_embeddings().weight.numel())
    left, right = torch.randn(TOKENS_PER_PACK, 256), torch.randn(256, 1024)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        matmul(left, right)
        seconds.append(time.perf_counter() - start)
    return needed * tokens_per_s / (2 * TOKENS_PER_PACK * 256 * 1024 / min(seconds))


def run_arms(options: argparse.Namespace, precision: Precision) -> dict[str, Any]:
    """All arms in turn, `repeats` times; medians and their ratios to the better peer."""
    names = ["redi", "trl_cpo", "simpo", "trl_dpo"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    forwarded = ["--pairs", str(options.pairs), "--precision", precision]
    for _ in range(options.repeats):
        for name in names:
            runs[name].append(run_arm(__file__, name, forwarded, options.threads))
    speed = {name: statistics.median(r["tokens_per_s"] for r in of) for name, of in runs.items()}
    memory = {name: statistics.median(r["added_gb"] for r in of) for name, of in runs.items()}
    for name in names:
        print(f"{precision} {name:8} {speed[name]:8.0f} tokens/s   +{memory[name]:.2f} GB", flush=True)
    fastest_peer = max(speed["trl_cpo"], speed["trl_dpo"])
    return {
        "tokens_per_s_ratio": round(speed["redi"] / fastest_peer, 2),
        "added_memory_ratio": round(memory["redi"] / min(memory["trl_cpo"], memory["trl_dpo"]), 3),
        "simpo_tokens_per_s_ratio": round(speed["simpo"] / fastest_peer, 2),
        "tokens_per_s": {name: round(value) for name, value in speed.items()},
        "added_gb": {name: round(value, 3) for name, value in memory.items()},
    }


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    fp32 = run_arms(options, "fp32")
    both = run_arm(__file__, "sft_redi", ["--pairs", str(2 * options.pairs)], options.threads)
    torch.set_num_threads(options.threads)
    return {
        **fp32,
        "pack_fill": round(pack_fill(), 4),
        "redi_over_sft": round(both["redi"] / both["sft"], 3),
        "matmul_share": round(matmul_share(fp32["tokens_per_s"]["redi"], options.pairs), 2),
        "bf16": None if options.quick else run_arms(options, "bf16"),
        "pairs": options.pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 pairs, once, float32 only")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arm", choices=["redi", "simpo", "sft_redi", "trl_cpo", "trl_dpo"])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the one arm")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.repeats = 8, 1
    missing = [name for name in ("trl", "datasets", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"This benchmark compares with TRL; missing: {', '.join(missing)}. pip install --no-deps trl==1.16.0 accelerate"
        )
    if options.arm is None:
        print(json.dumps(run_all(options)))
    elif options.arm == "sft_redi":
        print(json.dumps(run_sft_redi(options.pairs)))
    elif options.arm in ("redi", "simpo"):
        objective = RediObjective() if options.arm == "redi" else SimpoObjective()
        print(json.dumps(run_ours(objective, options.pairs, options.precision)))
    else:
        print(json.dumps(run_trl(options.arm.removeprefix("trl_"), options.pairs, options.precision)))


if __name__ == "__main__":
    main()
