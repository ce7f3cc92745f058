"""How a decoder may be run, found out by comparing it with itself: packed where that is exact, else sequence by sequence.

The question is settled on a miniature of the model (same architecture, few weights, short windows), in float64: its
log-probs and gradients over packs against transformers' plain ("eager") attention on each sequence alone, with sequences
longer than every window, chunk and top-k. A second look at the real weights follows when they are loaded.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from redi_ray.modeling.attention import NAME, pack_layout
from redi_ray.modeling.dropout import silence
from redi_ray.modeling.miniature import build, miniature, reach, room
from redi_ray.modeling.tokenizer import ModelError

if TYPE_CHECKING:
    from redi_ray.modeling.policy import Policy

log = logging.getLogger("redi_ray")
LENGTHS = (41, 30, 29, 12, 3, 41)
"""Of the sequences that miniatures are compared on: beyond their windows and position limits, and within."""
TOLERANCE = {torch.float64: 5e-5, torch.float32: 2e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Nats by the type that the model computes in; some norms and routers compute in float32 whatever it is."""
GRADIENT_TOLERANCE = 2e-4
"""Of a gradient's difference in float64, relative to its norm."""
CHECKED = (13, 9, 5)
"""Lengths of the sequences that the real weights are checked on."""
CARRIED = (nn.Conv1d,)
"""Layers over neighbouring positions know nothing of our borders, however little of it a comparison shows."""


SMALL_MODEL = 2_000_000
"""Weights up to which a model is its own miniature."""
WAYS: tuple[tuple[Literal["packed", "one by one"], str], ...] = (
    ("packed", NAME),
    ("one by one", "sdpa"),
    ("one by one", "eager"),
)
"""From the fastest on."""


@dataclass(frozen=True)
class Way:
    """How a decoder is run."""

    name: Literal["packed", "one by one", "refused"]
    attention: str | None
    """What transformers is asked for; None leaves it the choice."""
    reason: str = ""
    """Why it is not packed, or not run at all."""
    settled: bool = True
    """Whether a small copy was compared; if not, the real weights have to tell."""


def way_of(config: PretrainedConfig, make: Callable[[PreTrainedModel, bool], Policy]) -> Way:
    """The fastest exact way to run models of this config; `make(model, one_by_one)` makes a policy."""
    if is_remote(config):  # copies of what we do not know need not run
        return Way("one by one", None, "its code came with the model", settled=False)
    config = copy.deepcopy(config)
    silence(config)
    key = config.to_json_string(use_diff=False)
    if key not in _FOUND:
        with torch.enable_grad():
            _FOUND[key] = _find_way(config, make)
    return _FOUND[key]


def is_remote(config: PretrainedConfig) -> bool:
    """Whether a config's class came with the model."""
    return type(config).__module__.startswith("transformers_modules")


_FOUND: dict[str, Way] = {}
"""By config: what this process has found out already."""


def _find_way(config: PretrainedConfig, make: Callable[[PreTrainedModel, bool], Policy]) -> Way:
    reasons, whole = [], on_meta(config)
    weights = SMALL_MODEL + 1 if whole is None else sum(p.numel() for p in whole.parameters())
    for small, lengths in copies(config, weights):
        try:
            reference = build(small, "eager")
            parts = sequences(small, lengths)
            if problem := looks_ahead(reference, parts[0]):
                return Way("refused", None, problem)
            expected = own_gradient(reference, parts)
        except Exception as error:  # architectures fail in ways of their own
            reasons.append(short(error))
            continue
        return _compare(small, parts, expected, make, lacking(reference, whole))
    return Way("one by one", None, f"no small copy of it runs: {reasons[-1]}", settled=False)


def on_meta(config: PretrainedConfig) -> PreTrainedModel | None:
    """The model without weights; None where it cannot even be counted."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(copy.deepcopy(config))
    except Exception:  # architectures fail in ways of their own
        return None


def copies(config: PretrainedConfig, weights: int) -> Iterator[tuple[PretrainedConfig, Sequence[int]]]:
    """Configs to try, with the sequences' lengths: the model's own where that is small, then a miniature."""
    longest = reach(config) + 21
    if weights <= SMALL_MODEL and longest <= 8 * max(LENGTHS):
        longest = min(longest, room(config))
        yield config, (longest, longest * 3 // 4, 12, 3, longest)
    yield miniature(config), LENGTHS


def lacking(small: nn.Module, whole: nn.Module | None) -> str:
    """Which kinds of modules a small copy has none of, though the model has: what it does says nothing of them."""
    there = {type(module) for module in small.modules()}
    return ", ".join(sorted({type(m).__name__ for m in (whole.modules() if whole else ()) if type(m) not in there}))


def _compare(
    config: PretrainedConfig,
    parts: Sequence[Tensor],
    expected: tuple[Tensor, dict[str, Tensor]],
    make: Callable[[PreTrainedModel, bool], Policy],
    missing: str,
) -> Way:
    refused = [f"its small copy has no {missing}"] if missing else []
    for name, attention in WAYS[len(refused) :]:
        try:
            problem = unlike(make(build(config, attention), name != "packed"), parts, expected)
        except Exception as error:
            problem = short(error)
        if not problem:
            return Way(name, attention, refused[0] if refused else "")
        refused.append(problem)
    return Way("refused", None, refused[-1])


def short(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def sequences(config: PretrainedConfig, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[Tensor]:
    """Random tokens of text, `[n]` each: placeholders of images and the like mean something else to models that see."""
    generator = torch.Generator().manual_seed(seed)
    values, size = config.to_dict(), config.get_text_config().vocab_size
    special = {v for k, v in values.items() if k.endswith(("_token_id", "_token_index")) and isinstance(v, int)}
    usable = torch.tensor([i for i in range(min(size, 100_000)) if i not in special] or [0])
    return [usable[torch.randint(len(usable), (n,), generator=generator)] for n in lengths]


def own_logps(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Log-probs of `ids[n]` after the first by the model's own forward pass on them alone, `[n - 1]`."""
    reset_positions(model)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]


def reset_positions(model: nn.Module) -> None:
    """Forget how long the sequences before were: "dynamic" position embeddings keep the longest one's frequencies."""
    for module in model.modules():
        kind: Any = getattr(module, "rope_type", "")
        for layer_type in kind if isinstance(kind, dict) else [""]:
            prefix = f"{layer_type}_" if layer_type else ""
            if "dynamic" in (kind[layer_type] if layer_type else kind):
                first: Any = getattr(module, f"{prefix}original_inv_freq")
                module.register_buffer(
                    f"{prefix}inv_freq", first.to(getattr(module, f"{prefix}inv_freq").device), False
                )
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


@torch.no_grad()
def looks_ahead(model: PreTrainedModel, ids: Tensor) -> str:
    """Whether later tokens change earlier log-probs: of such a model nothing can be learnt. Empty if not."""
    half = len(ids) // 2
    other = torch.cat([ids[:half], ids[half:].flip(0)])
    before, after = own_logps(model, ids)[: half - 1], own_logps(model, other)[: half - 1]
    difference = float((before - after).abs().max())
    return (
        ""
        if difference <= 2e-4 * float(before.abs().max())
        else f"it looks ahead (by {difference:.2g} nats): no decoder"
    )


def weights_of(count: int) -> Tensor:
    """Made-up coefficients of both signs, `[count]`."""
    return torch.randn(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def own_gradient(model: PreTrainedModel, parts: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs of each sequence alone, `[N]`, and the gradient of a weighted sum of them by parameter."""
    model.zero_grad()
    logps = torch.cat([own_logps(model, part) for part in parts])
    (logps * weights_of(len(logps))).sum().backward()
    return logps.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def together(policy: Policy, parts: Sequence[Tensor], coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
    """The policy on the sequences in one pack."""
    lengths = [len(part) for part in parts]
    positions = torch.cat([torch.arange(n) for n in lengths])
    scored, ids = torch.nonzero(positions)[:, 0], torch.cat(list(parts))
    layout = pack_layout(lengths)
    return policy(ids, positions, layout=layout, rows=scored - 1, targets=ids[scored], coefficients=coefficients)


def unlike(policy: Policy, parts: Sequence[Tensor], expected: tuple[Tensor, dict[str, Tensor]]) -> str:
    """In what the policy differs from the reference, or empty."""
    if not policy.one_by_one and any(isinstance(module, CARRIED) for module in policy.decoder.modules()):
        return "its layers carry a state over sequences' borders"
    policy.train()
    total, found = together(policy, parts, weights_of(len(expected[0])))
    difference = float((found.double() - expected[0]).abs().max())
    if not difference <= TOLERANCE[torch.float64]:
        return f"log-probs differ from its own by {difference:.2g} nats"
    total.backward()
    norm = torch.stack([g.norm() for g in expected[1].values()]).norm()
    gradients = {name: p.grad for name, p in policy.model.named_parameters()}
    error = float(sum(_square(g, expected[1].get(name)) for name, g in gradients.items()) ** 0.5 / norm)
    if not error <= GRADIENT_TOLERANCE:
        return f"gradients differ from its own by {100 * error:.2g} %"
    return leak(policy, parts)


def _square(ours: Tensor | None, theirs: Tensor | None) -> float:
    """Squared distance of two gradients; None is zero."""
    there = [g for g in (ours, theirs) if g is not None]
    if not there:
        return 0.0
    return float((there[0] - there[1] if len(there) == 2 else there[0]).double().square().sum())


@torch.no_grad()
def leak(policy: Policy, parts: Sequence[Tensor]) -> str:
    """Whether other tokens in the first sequence change the log-probs of the rest, which must not move at all."""
    before = together(policy, parts, None)[1]
    after = together(policy, [parts[0].flip(0), *parts[1:]], None)[1]
    rest = slice(len(parts[0]) - 1, None)
    difference = float((before[rest] - after[rest]).abs().max())
    return "" if difference <= 1e-9 else f"neighbours in a pack change its log-probs by {difference:.2g} nats"


@torch.no_grad()
def check_exact(policy: Policy, settled: bool = True, path: str = "") -> None:
    """Compare a few sequences in one pack with the model's own plain forward pass on each; ValueError if they differ, ModelError
    where the model gives no numbers. path: what that names it by.

    The real weights' turn, once per load and short: what the architecture does is known from its miniature by then, or
    not `settled`: then later tokens are changed too, as a decoder must not notice.
    """
    model = policy.model
    name, dtype = model.config.model_type, policy.head_weight.dtype
    parts = sequences(model.config, CHECKED)
    training, own = policy.training, model.config._attn_implementation
    policy.eval()
    try:
        ours = together(policy, parts, None)[1].double().split([len(part) - 1 for part in parts])
        if own == NAME:
            model.set_attn_implementation("eager")
        theirs = [own_logps(model, part) for part in parts]
        problem = "" if settled else looks_ahead(model, parts[0])
    except Exception as error:
        raise ValueError(f"{name}: this architecture does not run over packs of sequences ({short(error)})") from error
    finally:
        if own == NAME:
            model.set_attn_implementation(own)
        policy.train(training)
    if not all(logps.isfinite().all() for logps in theirs):
        raise ModelError(f"{path or name}: {no_numbers(model)}")
    # Single tokens may differ by more: rounding decides between two experts that a router likes equally.
    differences = [float((a - b).abs().median()) for a, b in zip(ours, theirs, strict=True)]
    largest = max(float(logps.abs().max()) for logps in theirs)
    if not max(differences) <= TOLERANCE[dtype] * max(1.0, largest):
        problem = (
            f"log-probs over packs differ from the model's own by {max(differences):.3g} nats; its layers mix neighbouring "
            "sequences or its head is not a plain (scaled, soft-capped) product"
        )
    if problem:
        raise ValueError(f"{name}: {problem}")


def no_numbers(model: PreTrainedModel) -> str:
    """Why a model's log-probs may be NaN or infinite, and what would mend it."""
    told = "its log-probs are no finite numbers (NaN or infinite): "
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            return (
                f"{told}its weights hold NaN or infinity, the first of them {name}; take a folder that was saved whole"
            )
    return f"{told}its weights are finite and overflow in {str(weight.dtype).removeprefix('torch.')}; take `precision: fp32`"
