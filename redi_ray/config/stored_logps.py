"""Where the log-probs that an engine has of its own samples say nothing of what is trained, and what to do there."""

from __future__ import annotations

WAY_OUT = "take them by the pass that trains: `{do: logps, of: verified, model: base}`, of the model that sampled"
RAW = "raw_logprobs"
"""vLLM's `logprobs_mode` that the engine must have, which is its default: before temperature, top-p and penalties."""


def logprobs_fault(*, tools: bool, prompt: bool, endpoint: bool) -> str | None:
    """Why log-probs cannot be kept of samples that are drawn so, or None. prompt: whether they have a prompt of their own."""
    if endpoint:
        why = "an endpoint names no ids of its tokens, so that nobody knows whether they are the trained model's"
    elif tools:
        why = "behind a call the template closes the turn, with a token that no engine drew"
    elif prompt:
        why = "what is sampled behind a prompt of its own is trained behind `model.prompt`, where other log-probs hold"
    else:
        return None
    return f"logprobs: {why}. Leave it out, and {WAY_OUT}"
