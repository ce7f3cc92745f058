"""A saved folder for readers older than the transformers that wrote it: the forms of version 4 beside those of version 5.

Version 5 moved the rotary embedding into `rope_parameters`, renamed `torch_dtype` and its generic tokenizer class, and
lists a tokenizer's further special tokens under another name. Version 4 does not complain: it computes with a
`rope_theta` of 10,000, or fails on the list. Both read what is written here, version 5 as the same model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENIZER_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast", "PythonBackend": "PreTrainedTokenizer"}
"""Generic classes of version 5 -> their names in version 4, which version 5 still knows."""


OF_TYPE = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "modernbert-decoder": {"rope_theta": "global_rope_theta", "rope_local_base_freq": "local_rope_theta"},
}
"""Model type -> its own names in version 4."""


def write_older_forms(folder: str | Path, tokenizer: Any) -> None:
    """Add them to `config.json` and `tokenizer_config.json` in place; the latter belongs to `tokenizer`.

    Of Llama's tokenizers version 5 does not save `legacy`, and takes the other value when it loads them: words behind a
    special token would be read differently.
    """
    _edit(Path(folder) / "config.json", older_config)
    legacy = getattr(tokenizer, "legacy", None)
    kept = {"legacy": legacy} if isinstance(legacy, bool) else {}
    _edit(Path(folder) / "tokenizer_config.json", lambda config: older_tokenizer(kept | config))


def _edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.exists():
        path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2, ensure_ascii=False) + "\n")


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """With `rope_theta`, `rope_scaling`, `partial_rotary_factor` and `torch_dtype`, in nested configs (`text_config`) too.

    Example: {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}} -> the same, and {"rope_theta": 5e5}
    """
    found = {name: older_config(value) if name.endswith("_config") and isinstance(value, dict) else value
             for name, value in config.items()}  # fmt: skip
    if isinstance(found.get("dtype"), str):
        found.setdefault("torch_dtype", found["dtype"])
    rope, names = found.get("rope_parameters"), OF_TYPE.get(str(found.get("model_type")), {})
    if not isinstance(rope, dict):
        return found
    if "sliding_attention" in rope and "full_attention" in rope:  # Gemma 3: one for each type of layer
        local = rope["sliding_attention"] or {}
        if "rope_theta" in local:
            found.setdefault(names.get("rope_local_base_freq", "rope_local_base_freq"), local["rope_theta"])
        rope = rope["full_attention"] or {}
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            found.setdefault(names.get(name, name), rope[name])
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    if scaling.get("rope_type", "default") != "default":
        found.setdefault("rope_scaling", scaling)
    return found


def older_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """With a class that version 4 has, a list of special tokens under the name that it reads, and the place of a class of
    its own as both read it."""
    found = dict(config)
    kind = found.get("tokenizer_class")
    found["tokenizer_class"] = TOKENIZER_CLASSES.get(kind, kind) if isinstance(kind, str) else kind
    own = found.get("auto_map")
    if isinstance(own, dict) and isinstance(own.get("AutoTokenizer"), str):  # as version 5 saves it, but loads a pair
        found["auto_map"] = {**own, "AutoTokenizer": [own["AutoTokenizer"], None]}
    if isinstance(found.get("extra_special_tokens"), list):
        found["additional_special_tokens"] = found.pop("extra_special_tokens")
    return found
