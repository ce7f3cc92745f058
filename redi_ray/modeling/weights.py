"""Whether a folder's weights are those that its config asks for, told by their files' headers: no weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import is_accelerate_available

from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import is_folder

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FILES = ("model.safetensors", "pytorch_model.bin")


class WeightsError(UserError):
    """A folder does not hold the weights of its config; the message says which, and what is there instead."""


def weight_problems(field: str, path: str, config: PretrainedConfig, model: type[PreTrainedModel] | None) -> list[str]:
    """What a folder lacks of the weights of `config`: files, or single weights by name and shape. The hub is not asked.

    model: the class that loads them; null compares no names (code of its own may rename them).
    """
    if not is_folder(path):
        return []
    try:
        stored = stored_tensors(weight_files(path))
    except WeightsError as error:
        return [f"{field}: {error}"]
    if model is None or not stored or not is_accelerate_available():
        return []
    try:
        return [f"{field}: {path} {told}" for told in differences(model, config, stored)]
    except Exception as error:  # transformers raises of many kinds, and the training would hear the same
        return [f"{field}: {path} cannot be loaded: {type(error).__name__}: {error}"]


def weight_files(path: str) -> list[str]:
    """URIs of the files that transformers reads weights from. Raises WeightsError if one is not there."""
    from redi_ray.store import storage  # which the training core does without

    folder = storage.resolve(path)
    there = {uri.removeprefix(folder).lstrip("/") for uri in storage.list_files(folder)}
    for name in FILES:
        index, listed = f"{name}.index.json", {name}
        if name not in there and index in there:
            listed = indexed(storage.join(folder, index))
            if missing := sorted(listed - there):
                raise WeightsError(f"{path} lacks {', '.join(missing[:3])}, which {index} names")
        if listed <= there:
            return [storage.join(folder, part) for part in sorted(listed)]
    raise WeightsError(f"{path} holds no weights ({', or '.join(FILES)})")


def indexed(uri: str) -> set[str]:
    """The files that an index names. Raises WeightsError for one that is cut off, or is something else."""
    from redi_ray.store import storage

    try:
        return set(storage.read_json(uri)["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{uri} is no index of weights ({type(error).__name__}: {error}); fetch or copy it again"
        ) from error


def stored_tensors(uris: Iterable[str]) -> dict[str, Tensor]:
    """Name -> an empty tensor of the shape and type that safetensors files have, on the meta device. Of pickles, none.

    Raises WeightsError for a file that is none, or that is cut off.
    """
    from redi_ray.store import storage

    found = {}
    for uri in uris:
        if not uri.endswith(".safetensors"):
            continue
        head, size = storage.read_head(uri, 8)
        length = int.from_bytes(head, "little")
        if length > size - 8:
            pointer = head.startswith(b"version ")
            what = "is a pointer of git-lfs, whose content was not fetched" if pointer else "is no safetensors file"
            raise WeightsError(f"{uri} {what}; fetch or copy it again")
        header = header_of(uri, storage.read_head(uri, 8 + length)[0][8:])
        header.pop("__metadata__", None)
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if size < end:
            raise WeightsError(f"{uri} is cut off: it has {size:,} bytes of {end:,}; fetch or copy it again")
        for name, tensor in header.items():
            found[name] = torch.empty(tensor["shape"], dtype=TYPES.get(tensor["dtype"], torch.uint8), device="meta")
    return found


def header_of(uri: str, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise WeightsError(f"{uri} is no safetensors file; fetch or copy it again")
    return header


def differences(model: type[PreTrainedModel], config: PretrainedConfig, stored: dict[str, Tensor]) -> list[str]:
    """Weights that the model would make up at random, and those of another shape, as transformers' own loading finds them
    (it renames, ties, splits and stacks)."""
    load: Any = model.from_pretrained  # its types leave out what it returns here
    told = load(
        None,
        config=config,
        state_dict=stored,
        device_map="meta",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )[1]
    found = []
    if missing := sorted(told["missing_keys"]):
        found.append(
            f"lacks {len(missing)} of the weights that its config asks for, such as {', '.join(missing[:3])}; they would be "
            "random"
        )
    if other := sorted(told["mismatched_keys"]):
        name, here, asked = other[0]
        found.append(
            f"has {len(other)} weights of another shape than its config says, such as {name}: {list(here)} for {list(asked)}"
        )
    return found
