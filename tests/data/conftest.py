"""Fixtures of the data stages."""

from __future__ import annotations

import pytest

from redi_ray.modeling.tokenizer import train_bpe_tokenizer


@pytest.fixture(scope="session")
def bpe_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small byte-level tokenizer: no text is unknown to it."""
    folder = tmp_path_factory.mktemp("bpe")
    train_bpe_tokenizer(["Find the value of x.", "<think>So it is 2.</think> \\boxed{2}"], 300).save_pretrained(folder)
    return str(folder)
