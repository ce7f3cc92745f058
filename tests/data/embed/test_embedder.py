"""Embeddings by words and by a model of transformers: what they do not depend on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel, BertTokenizerFast

from redi_ray.config.embedders import ModelEmbedder, WordEmbedder
from redi_ray.data.embed.embedder import fit, pooling_of, start
from redi_ray.errors import UserError

TEXTS = ["two dogs ran home", "a dog", "two cats ran far away from the old home of a dog", "home"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **size)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_and_order_change_nothing(pooling: str, model: Path):
    settings = ModelEmbedder(name="model", path=str(model), pooling=pooling, batch_size=3)  # type: ignore[arg-type]
    embed = start(settings)
    together, alone = embed(TEXTS), np.concatenate([embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert embed(["home " * 500]).shape == (1, 16)  # longer than the model reaches: cut off
    prefixed = start(settings.model_copy(update={"prefix": "two "}))
    np.testing.assert_allclose(prefixed(["dogs ran home"]), together[:1], atol=1e-5)


def test_the_folder_says_how_it_pools(model: Path, tmp_path: Path):
    assert pooling_of(str(model)) == "mean"
    (tmp_path / "1_Pooling").mkdir()
    for told, pooling in (("pooling_mode_cls_token", "cls"), ("pooling_mode_lasttoken", "last")):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False, told: True}))
        assert pooling_of(str(tmp_path)) == pooling
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match="set `pooling`"):
        pooling_of(str(tmp_path))


def test_words_tell_texts_apart_and_a_blank_one_is_nothing():
    settings = WordEmbedder(name="words", dimensions=8)
    fitted = fit(TEXTS, settings)
    found = start(settings, fitted)([*TEXTS, " "])
    assert found.shape == (5, 3)  # four texts have no more dimensions
    assert found.dtype == np.float32
    assert not found[4].any()
    assert found[0] @ found[2] > found[1] @ found[3] - 1e-6
    np.testing.assert_array_equal(start(settings, fit(TEXTS, settings))([*TEXTS, " "]), found)
    with pytest.raises(UserError, match="nothing to learn from 1 texts"):
        fit([" "], settings)


def test_what_is_no_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"embedder\.path: .* cannot be loaded as a model"):
        start(ModelEmbedder(name="model", path=str(tmp_path)))
