"""Small tokenizers survive saving and loading beside a Qwen2 model, where transformers picks the class itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from redi_ray.config.experiment import Architecture
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import (
    ModelError,
    character_tokenizer,
    check_model,
    end_of_turn_ids,
    load_tokenizer,
    read_completion,
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
