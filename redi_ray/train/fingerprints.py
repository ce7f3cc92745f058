"""What token arrays and reference log-probs were made with, recorded beside them, and held against what is trained.

`<arrays>/made_with.json` holds a SHA-256 of each of

    tokenizer   the vocabulary, the merges, what happens before them, and the end-of-turn token
    template    the tokenizer's chat template
    data        the arrays that say what is scored: tokens, weights, borders, groups, sides
    model       where there are reference log-probs: the weights and config of the model that gave them, with the
                overrides under which it computed
    pairs       of mismatched sequences: the `data` of the sequences that they were made from

Stage keys keep these apart already. But a key holds names: the hub can change what is behind one, and a folder can be
edited, copied or put together by hand. The record is about contents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redi_ray.config.training import ModelOverrides
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import tokenizer_fingerprints
from redi_ray.train.seals import checksum

RECORD = "made_with.json"
REFERENCE = "ref_logps"
"""The array that is made with a model, and so no part of the data's fingerprint."""


class FingerprintError(UserError):
    """Token arrays or reference log-probs were made with something else than what is trained; the message names it."""


def data_fingerprint(folder: str | Path) -> str:
    """Of the arrays that `SequenceStore.save` wrote, token columns left out. Files are read a piece at a time."""
    return _hash({path.stem: checksum(path) for path in sorted(Path(folder).glob("*.npy")) if path.stem != REFERENCE})


def model_fingerprint(path: str, overrides: ModelOverrides) -> str:
    """Of a model's weights, config and overrides. Adapters are left out: they start as no change at all.

    path: local folder, or a hub name whose files have been fetched.
    """
    from transformers.utils import cached_file

    folder = Path(path) if Path(path).is_dir() else Path(str(cached_file(path, "config.json"))).parent
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    files = {file.name: checksum(file) for file in [folder / "config.json", *weights]}
    return _hash([files, overrides.rope_theta, overrides.max_position_embeddings])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_record(folder: str | Path, made_with: Mapping[str, str], data: str | None = None) -> None:
    """Record what arrays were made with, in `folder`; the `data` of those that lie there is added, where it is not given."""
    record = {**made_with, "data": data or data_fingerprint(folder)}
    (Path(folder) / RECORD).write_text(json.dumps(record, indent=1))


def read_record(folder: str | Path) -> dict[str, str]:
    """The fingerprints recorded beside the arrays; none for arrays that were saved without."""
    path = Path(folder) / RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def check_record(where: str, made_with: Mapping[str, str], used: Mapping[str, str]) -> None:
    """Raise FingerprintError, naming what differs, unless the arrays at `where` were made with what is `used` now.

    Only what is `used` is compared: a run without a reference does not ask which model gave the log-probs. Arrays without
    any record pass if there is no `model` in question; log-probs of an unknown reference never do.
    """
    if not made_with and "model" not in used:
        return
    differing = [name for name in used if made_with.get(name) != used[name]]
    if not differing:
        return
    told = [f"{name} ({made_with.get(name, 'nothing')[:12]} there, {used[name][:12]} here)" for name in differing]
    what = "reference log-probs" if "model" in used else "token arrays"
    raise FingerprintError(
        f"{where}: these {what} were made with another {', '.join(told)} than is used now; remove the folder of that stage "
        "to have them made again"
    )


def check_arrays(
    folder: str,
    *,
    tokenizer: Any,
    model_path: str | None = None,
    overrides: ModelOverrides | None = None,
    mismatched: str | None = None,
) -> None:
    """Hold the record of a run's arrays, and of its mismatched sequences, against what the run trains with.

    `model_path` and `overrides` are those of the model that training starts from, for a run that reads reference
    log-probs; without them nothing is asked of the reference. Raises FingerprintError.
    """
    used = tokenizer_fingerprints(tokenizer)
    if model_path is not None:
        used["model"] = model_fingerprint(model_path, overrides or ModelOverrides())
    data = data_fingerprint(folder)
    check_record(folder, read_record(folder), {**used, "data": data})
    if mismatched is not None:
        check_record(mismatched, read_record(mismatched), {**used, "data": data_fingerprint(mismatched), "pairs": data})
