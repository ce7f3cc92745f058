"""Tokenizers: loading them, and making the small ones that a from-scratch model needs.

transformers is imported where it is used, since its tokenizers load all of torch: seconds for each of the many processes
(the driver, Ray's controllers, a search's trials) that only name functions of this module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import StorageError, UserError
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.templates import PromptError, closing_id, template_fingerprint, uses_clock
from redi_ray.text.thoughts import THINK_TAGS

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

log = logging.getLogger("redi_ray")

END_OF_TURN = "<|end|>"
PAD = "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (PAD, END_OF_TURN, *ROLES)
NAMED: dict[str, Any] = {"eos_token": END_OF_TURN, "pad_token": PAD, "unk_token": None}
"""The class is Qwen2's own because transformers reads the tokenizer of a Qwen2 model with it, whatever was saved."""
TOLD = re.compile(r"licen[cs]e.*|\.gitattributes|.*\.(md|png|jpe?g|gif|svg|webp)")
"""Names of files, in small letters, that tell of a model and that nothing loads."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def import_for_threads() -> None:
    """Import what this module uses of transformers, whose lazy modules fail if two threads import them at a time."""
    from transformers import AutoTokenizer, GenerationConfig  # noqa: F401


class ModelError(UserError):
    """A model that cannot be used; the message says what is missing and where."""


def is_folder(path: str) -> bool:
    """Whether a model's path is a folder of ours (local or s3://) rather than a name on the hub."""
    return path.startswith((".", "/", "~", "s3://")) or os.path.isdir(path)


def content_of_model(path: str) -> str:
    """What decides a model's output in its folder, or behind its name on the hub; see `redi_ray.store.contents`. Cards, licences
    and pictures do not: whoever adds one need not make anything again."""
    from redi_ray.store.contents import commit_of, content_of

    def is_told(name: str, _uri: str) -> bool:
        return bool(TOLD.fullmatch(name.rsplit("/", 1)[-1].lower()))

    return content_of(path, is_told) if is_folder(path) else commit_of(path, "model", None)


def local_folder(path: str) -> str:
    """The path itself, or a local copy of what is on S3 (its small files; the weights stay there)."""
    if not path.startswith("s3://"):
        return path
    from redi_ray.store import storage
    from redi_ray.store.own_folder import own_folder

    folder = str(own_folder("models") / storage.content_hash(path)[:16])
    os.makedirs(folder, exist_ok=True)
    for uri in storage.list_files(path):
        if uri.endswith((".json", ".jinja", ".txt", ".model", ".py")):
            target = os.path.join(folder, uri.rsplit("/", 1)[-1])
            storage.write_bytes(target, storage.read_bytes(uri))
    return folder


def check_model(field: str, path: str, prompt: PromptSettings | None = None, trust_remote_code: bool = False) -> None:
    """Raise ModelError, naming the config's field, unless a tokenizer that renders such prompts can be loaded from `path`."""
    try:
        if is_folder(path) and not os.path.isfile(os.path.join(folder := local_folder(path), "config.json")):
            names = os.listdir(folder) if os.path.isdir(folder) else []
            raise ModelError(f"{path} holds no config.json; it must be a Hugging Face model folder{_kind(names)}")
        tokenizer = load_tokenizer(path, trust_remote_code)
        prompt = prompt or PromptSettings(prefix="")
        render_prompt(to_messages("1+1", prompt), tokenizer, prompt)
        end_of_turn_ids(path, trust_remote_code)
    except (ModelError, PromptError) as error:
        raise ModelError(f"{field}: {error}") from error
    except StorageError:
        raise
    except OSError as error:  # of the hub
        raise ModelError(f"{field}: {path} cannot be loaded: {error}") from error
    if uses_clock(tokenizer, prompt):
        log.info("%s: the chat template writes the date; prompts here always say %s (prompt.date)", path, prompt.date)
    if lost := lost_space(tokenizer):
        raise ModelError(f"{field}: the tokenizer of {path}, as transformers loads it, {lost}; save it in another form")


def _kind(names: Collection[str]) -> str:
    """What a folder without a model holds instead, for a message."""
    if "adapter_config.json" in names:
        return ". It holds adapters alone: merge them into their model (peft's merge_and_unload) and save that"
    if any(name.endswith(".gguf") for name in names):
        return ". It holds GGUF files: take the model that they were made of"
    return ""


def lost_space(tokenizer: Any) -> str | None:
    """What a tokenizer does to white space, where it loses it; seen after loading one as another class than its own."""
    text = "1 1\n1"
    found = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    return None if found.split("1") == text.split("1") else f"makes {found!r} of {text!r}"


@lru_cache(maxsize=4)
def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a Hugging Face folder (local or s3://) or hub name, cached per process.

    trust_remote_code: run code that ships with it, see `ModelOverrides`.

    Raises ModelError if it cannot be loaded or has no chat template or no end-of-turn token, OSError where the hub cannot be
    asked.
    """
    from transformers import AutoTokenizer

    folder = local_folder(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # of transformers, tokenizers, pydantic or the tokenizer's own code
        if isinstance(error, OSError) and not is_folder(path):
            raise
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        raise ModelError(f"{path} cannot be loaded: {kind}{error}") from error
    if not tokenizer.chat_template:
        raise ModelError(f"{path}: its tokenizer has no chat template, so prompts cannot be rendered; add one to it")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{path}: its tokenizer has no end-of-turn token (eos_token)")
    return tokenizer


def end_of_turn_ids(path: str, trust_remote_code: bool = False) -> frozenset[int]:
    """Token ids that end a completion: what the chat template closes a turn with, the tokenizer's, and those of the
    generation config (Qwen has two)."""
    tokenizer = load_tokenizer(path, trust_remote_code)
    found = {closing_id(tokenizer), tokenizer.eos_token_id}
    if (generation := stored_generation_config(path)) is not None:
        found |= set(listed_ends(generation))
    return frozenset(found)


def stored_generation_config(path: str) -> Any:
    """The generation config of a model; None where it has none. Raises ModelError where transformers cannot read it, also
    where it would go on as if there were none (a file that is cut off)."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(local_folder(path))
    except OSError as error:
        if not isinstance(error.__context__, ValueError):  # what json and UTF-8 raise
            return None
        told: Exception = error.__context__
    except (TypeError, ValueError) as error:
        told = error
    raise ModelError(
        f"{path}: generation_config.json is not one that transformers reads: {told}; fetch it again, or remove it"
    ) from told


def listed_ends(generation: Any) -> list[int]:
    """Token ids that end a completion by a generation config, which may hold anything there."""
    listed = generation.eos_token_id
    return [token for token in (listed if isinstance(listed, list) else [listed]) if type(token) is int and token >= 0]


def read_completion(tokens: Sequence[int], tokenizer: Any, end_ids: Collection[int]) -> tuple[str, bool]:
    """The text of sampled ids up to the first that ends a completion, and whether there is one.

    Special tokens before it are kept, as the engines keep them: `<think>` or a tool's tag may be one.
    """
    end = next((at for at, token in enumerate(tokens) if token in end_ids), None)
    text = tokenizer.decode(tokens[:end], skip_special_tokens=False)
    return text, end is not None


def tokenizer_fingerprints(tokenizer: Any) -> dict[str, str]:
    """`tokenizer`: SHA-256 of what decides the ids of a text; `template`: of the chat template and of what it makes of a chat.

    Taken from a loaded tokenizer, so that saving it and loading it again changes neither. What is not in its state (code of
    its own, a model of sentencepiece) shows in the ids of a text that is read for it.
    """
    parts: list[Any] = [sorted(tokenizer.get_vocab().items()), tokenizer.eos_token_id]
    model: dict[str, Any] = {}
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        state = json.loads(backend.to_str())
        model = state["model"]  # of a unigram model with its scores, of a BPE with its merges
        added = sorted(state["added_tokens"], key=lambda token: token["id"])
        parts += [model, added, state["normalizer"], state["pre_tokenizer"]]
    if (sentencepiece := getattr(tokenizer, "sp_model", None)) is not None:
        parts.append(hashlib.sha256(sentencepiece.serialized_model_proto()).hexdigest())
    parts.append(bool(getattr(tokenizer, "split_special_tokens", False)))
    if not model.get("dropout"):  # which reads a text differently every time
        parts.append(tokenizer(probe_text(tokenizer), add_special_tokens=False)["input_ids"])
    vocabulary = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {"tokenizer": vocabulary, "template": template_fingerprint(tokenizer)}


def another_tokenizer(name: str, model: str, base: str) -> str:
    """Why a model cannot say anything of the tokens that are trained, and what would fit. name: what the config calls it."""
    return (
        f"the model `{name}` ({model}) has another tokenizer than the base model ({base}), so that it speaks of other tokens "
        "than are trained. What would fit: a model that is trained from the base model, or another size of its family with the "
        "same vocabulary and end of turn; of any other model learn the texts alone, as a step `sample` draws them"
    )


def probe_text(tokenizer: Any) -> str:
    """White space, cases, accents composed and not, digits, other scripts, and the added tokens with space around them."""
    added = [str(token) for _, token in sorted(tokenizer.added_tokens_decoder.items())[:200]]
    return "  Two  words\tand\r\n\n12345.60 E\u0301\u00c9 \u4e2d\u6587 \U0001f600 don't\u00a0" + "".join(
        f" {token} x{token}" for token in added
    )


def character_tokenizer(alphabet: str) -> Qwen2Tokenizer:
    """One token per character of `alphabet` (ASCII), plus the chat's special tokens, the think tags and `\\boxed{`."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(alphabet)[0][0]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *dict.fromkeys(letters)])}
    return _finish(Qwen2Tokenizer(vocab=vocabulary, merges=[], **NAMED), added=[*THINK_TAGS, "\\boxed{"])


def train_bpe_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer learnt from `texts`; nothing is unknown to it."""
    from transformers import Qwen2Tokenizer

    blank = Qwen2Tokenizer(vocab={token: index for index, token in enumerate(SPECIAL)}, merges=[], **NAMED)
    learnt = blank.train_new_from_iterator(texts, vocab_size - len(THINK_TAGS), show_progress=False)
    return _finish(learnt, added=list(THINK_TAGS))


def _finish(tokenizer: Qwen2Tokenizer, added: list[str]) -> Qwen2Tokenizer:
    tokenizer.add_special_tokens({"additional_special_tokens": list(ROLES)})
    tokenizer.add_tokens(added)  # not special: they are part of the text and survive decoding
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
