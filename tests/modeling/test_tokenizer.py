"""Small tokenizers survive saving and loading beside a Qwen2 model, where transformers picks the class itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_families import CHATML, family
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import Architecture
from redi_ray.config.training import ModelOverrides
from redi_ray.modeling.preflight import student_problems
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import (
    CHAT_TEMPLATE,
    ModelError,
    character_tokenizer,
    check_model,
    end_of_turn_ids,
    load_tokenizer,
    read_completion,
    tokenizer_fingerprints,
    train_bpe_tokenizer,
)

TEXT = "<think>\n6+2=8\n8*3=4\n</think>\n\\boxed{4}"
TINY = Architecture(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=32)


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_loaded_tokenizer_gives_the_same_ids_and_text(kind: str, tmp_path: Path):
    made = character_tokenizer("0123456789=}\n+-*") if kind == "characters" else train_bpe_tokenizer([TEXT] * 20, 300)
    save_scratch_model(TINY, made, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    prompt = loaded.apply_chat_template(
        [{"role": "user", "content": "6+2*3"}], tokenize=False, add_generation_prompt=True
    )
    for text in (TEXT, prompt, prompt + TEXT):
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert loaded(text, add_special_tokens=False)["input_ids"] == ids
        assert loaded.decode(ids) == text
    assert end_of_turn_ids(str(tmp_path)) == {loaded.eos_token_id}


def test_characters_are_single_tokens():
    tokenizer = character_tokenizer("0123456789=}\n+-*")
    assert len(tokenizer("<think>\n6+2=8", add_special_tokens=False)["input_ids"]) == 7
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True) == TEXT  # think tags stay


def test_sampling_stops_at_what_closes_a_turn(tmp_path: Path):
    """Gemma's own end is that of a document, and so is what its base model's generation config knows."""
    tokenizer = family("gemma")
    save_scratch_model(TINY, tokenizer, tmp_path)
    ends = end_of_turn_ids(str(tmp_path))
    assert ends == {tokenizer.convert_tokens_to_ids("<end_of_turn>"), tokenizer.convert_tokens_to_ids("<eos>")}


def test_a_generation_config_that_is_cut_off_is_no_missing_one(tmp_path: Path):
    """transformers goes on as if there were none, and what it ends a completion with would be lost."""
    save_scratch_model(TINY, family("qwen"), tmp_path)
    stored = tmp_path / "generation_config.json"
    stored.unlink()
    assert end_of_turn_ids(str(tmp_path))
    for content in (b'{"eos_token_id": [2,', b"", b'{"a": "\xff"}'):
        stored.write_bytes(content)
        with pytest.raises(ModelError, match="is not one that transformers reads"):
            end_of_turn_ids(str(tmp_path))


CLOSES = CHATML.replace("assistant\n'", "assistant\n<think>\n\n</think>\n\n'")


@pytest.mark.parametrize(
    ("name", "template", "prompt", "told"),
    [
        ("gemma", None, PromptSettings(system="Be brief."), r"System role not supported.*`prompt.system` to null"),
        ("qwen", CLOSES, PromptSettings(), r"closes a thought before the answer.*`prompt.template_args`"),
        ("qwen", "{{ nothing.at.all }}", PromptSettings(), "refuses a chat"),
    ],
)
def test_a_template_that_cannot_make_the_prompts_is_found_before_anything_starts(
    tmp_path: Path, name: str, template: str | None, prompt: PromptSettings, told: str
):
    save_scratch_model(TINY, family(name, template=template), tmp_path)
    with pytest.raises(ModelError, match=f"model.init.path: the chat template of .*{told}"):
        check_model("model.init.path", str(tmp_path), prompt)
    check_model("model.init.path", str(save_good(tmp_path / "good")), PromptSettings(system="Be brief."))


def save_good(folder: Path) -> Path:
    save_scratch_model(TINY, family("qwen"), folder)
    return folder


def test_a_clock_in_the_template_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save_scratch_model(TINY, family("dated"), tmp_path)
    with caplog.at_level("INFO", logger="redi_ray"):
        check_model("model.init.path", str(tmp_path), PromptSettings(date="2025-01-02"))
    assert "the chat template writes the date; prompts here always say 2025-01-02" in caplog.text


def test_a_tokenizer_that_loses_white_space_is_refused(tmp_path: Path):
    """As one does that was made for another class than transformers loads it with."""
    save_scratch_model(TINY, character_tokenizer("01"), tmp_path)
    with pytest.raises(ModelError, match=r"as transformers loads it, makes '111' of '1 1\\n1'"):
        check_model("model.init.path", str(tmp_path), PromptSettings())


@pytest.mark.parametrize("special", [False, True])
def test_a_completion_is_read_up_to_its_end_with_its_tags(special: bool):
    """`<think>` is a special token of some vocabularies; its text must come out as it went in."""
    tokenizer = character_tokenizer("0123456789=}\n+-*")
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids, end = tokenizer(TEXT, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id
    for tail, ended in (([], False), ([end], True), ([end, tokenizer.pad_token_id, *ids], True)):
        assert read_completion([*ids, *tail], tokenizer, {end}) == (TEXT, ended)


def test_models_that_cannot_be_used_are_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"model.init.path: .* holds no config.json"):
        check_model("model.init.path", str(tmp_path / "nowhere"))
    tokenizer = character_tokenizer("01")
    tokenizer.chat_template = None
    save_scratch_model(TINY, tokenizer, tmp_path)
    with pytest.raises(ModelError, match="no chat template"):
        load_tokenizer(str(tmp_path))


def unigram(scores: dict[str, float], **flags: bool) -> PreTrainedTokenizerFast:
    """A unigram tokenizer with one added token, its flags as given."""
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
    backend.add_tokens([AddedToken("<t>", normalized=False, **flags)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", chat_template=CHAT_TEMPLATE)


PIECES = {"a": -1.0, "b": -1.0, "ab": -1.5, " ": -2.0}


@pytest.mark.parametrize(
    "other",
    [
        unigram({**PIECES, "ab": -3.0}),
        unigram(PIECES, lstrip=True),
        unigram(PIECES, rstrip=True),
        unigram(PIECES, single_word=True),
    ],
    ids=["scores", "lstrip", "rstrip", "single-word"],
)
def test_tokenizers_that_read_a_text_differently_have_other_fingerprints(other: PreTrainedTokenizerFast) -> None:
    """The same vocabulary, normalizer and pre-tokenizer: only the scores of the pieces, or a flag of an added token, differ."""
    one, text = unigram(PIECES), "ab <t> ab<t>b"
    assert one.get_vocab() == other.get_vocab()
    assert one(text)["input_ids"] != other(text)["input_ids"]
    assert tokenizer_fingerprints(one)["tokenizer"] != tokenizer_fingerprints(other)["tokenizer"]
    assert tokenizer_fingerprints(one)["template"] == tokenizer_fingerprints(other)["template"]


def test_a_token_that_the_template_names_is_part_of_the_template() -> None:
    one, other = unigram(PIECES), unigram(PIECES)
    one.bos_token, other.bos_token = "a", "ab"
    one.chat_template = other.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    assert tokenizer_fingerprints(one)["template"] != tokenizer_fingerprints(other)["template"]


@pytest.mark.parametrize(
    "tokenizer",
    [
        unigram(PIECES, lstrip=True),
        character_tokenizer("0123456789="),
        train_bpe_tokenizer(["one two  three", "Two\nthree 12"] * 9, 320),
    ],
    ids=["unigram", "characters", "bpe"],
)
def test_saving_and_loading_changes_no_fingerprint(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Twice, and through a text that was cut and padded, which a tokenizer keeps in its state."""
    expected = tokenizer_fingerprints(tokenizer)
    for name in ("a", "b"):
        tokenizer.save_pretrained(tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        tokenizer("ab", truncation=True, max_length=1)
        assert tokenizer_fingerprints(tokenizer) == expected


OWN_CODE = """
from transformers import Qwen2Tokenizer


class Doubling(Qwen2Tokenizer):
    def _encode_plus(self, text, *args, **kwargs):
        return super()._encode_plus(text.replace("6", "66"), *args, **kwargs)
"""


def test_code_that_ships_with_a_tokenizer_runs_where_it_is_trusted(tmp_path: Path):
    """The student's overrides say so for its tokenizer too; transformers takes a class of its own otherwise, without a word."""
    save_scratch_model(TINY, character_tokenizer("0123456789=}\n+-*"), tmp_path / "model")
    (tmp_path / "model" / "doubling.py").write_text(OWN_CODE)
    path = tmp_path / "model" / "tokenizer_config.json"
    told = json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["doubling.Doubling", None]}}
    path.write_text(json.dumps(told))
    one, other = (load_tokenizer(str(tmp_path / "model"), trusted) for trusted in (False, True))
    assert len(other("6=6")["input_ids"]) == len(one("6=6")["input_ids"]) + 2
    assert tokenizer_fingerprints(one)["tokenizer"] != tokenizer_fingerprints(other)["tokenizer"]
    assert student_problems(str(tmp_path / "model"), ModelOverrides(trust_remote_code=True), PromptSettings(), {}) == []
