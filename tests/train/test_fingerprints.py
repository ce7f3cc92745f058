"""Reference log-probs of another model, tokenizer, template or data are refused by name before the first step, whatever
the folders are called.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_store
from tiny_runs import ALPHABET, SIZES, write_inputs
from transformers import AutoTokenizer

from redi_ray.config.objectives import KtoObjective, Objective, RediObjective, SimpoObjective
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer, tokenizer_fingerprints, train_bpe_tokenizer
from redi_ray.train.distributed import Distributed
from redi_ray.train.fingerprints import FingerprintError, data_fingerprint, model_fingerprint, write_record
from redi_ray.train.loop import Hooks
from redi_ray.train.mismatched import mismatched_sequences
from redi_ray.train.monitors import read_metrics
from redi_ray.train.on_ray.launch import read_outcome
from redi_ray.train.on_ray.orders import Orders
from redi_ray.train.on_ray.worker import train_and_export
from redi_ray.train.references import reference_logps
from redi_ray.train.sequences import SequenceStore

SETTINGS = TrainSettings(learning_rate=1e-3, batch_size=4, max_steps=3, tokens_per_pack=128)


def score(model: str, folder: Path, **more: str) -> None:
    """Add the model's log-probs to the arrays in `folder`, and the record of what they were made with."""
    store = SequenceStore.load(folder, mmap=False)
    policy = load_policy(model, ModelOverrides()).eval()
    index, logps = reference_logps(policy, store, np.arange(len(store)), tokens_per_pack=256, chunk_tokens=64)
    column = np.zeros(len(store.tokens), np.float32)
    column[index] = logps
    np.save(folder / "ref_logps.npy", column)
    made_with = {**tokenizer_fingerprints(load_tokenizer(model)), "model": model_fingerprint(model, ModelOverrides())}
    write_record(folder, {**made_with, **more})


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `sequences` and `mismatched`, both scored by the model."""
    root = tmp_path_factory.mktemp("scored")
    model, sequences = write_inputs(root, num_pairs=12)
    mismatched_sequences(SequenceStore.load(sequences)).save(root / "mismatched")
    score(model, root / "sequences")
    score(model, root / "mismatched", pairs=data_fingerprint(sequences))
    return root


def train(root: Path, objective: Objective, overrides: ModelOverrides | None = None) -> Path:
    orders = Orders(
        model_path=str(root / "model"),
        overrides=overrides or ModelOverrides(),
        sequences_uri=str(root / "sequences"),
        mismatched_uri=str(root / "mismatched") if objective == KtoObjective() else None,
        objective=objective,
        settings=SETTINGS,
        out_uri=str(root / "out"),
        name="tiny",
        threads=1,
        trackers=(),
        watch_nodes=False,
    )
    (root / "scratch").mkdir()
    train_and_export(orders, Distributed(), root / "scratch", Hooks())
    return Path(orders.out_uri)


def test_what_belongs_together_trains(scored: Path, tmp_path: Path) -> None:
    """At the start the policy is the reference: KTO's divergence is 0, and every gain 1/2."""
    out = train(Path(shutil.copytree(scored, tmp_path / "run")), KtoObjective())
    assert read_outcome(str(out)) is not None
    first, *_, last = read_metrics(out / "metrics.jsonl")
    assert (first["loss"], first["kl"]) == (pytest.approx(0.5, abs=1e-5), pytest.approx(0, abs=1e-4))
    assert last["loss"] < first["loss"]


def other_weights(root: Path) -> None:
    """The same shapes, one weight a little different, as after another run of SFT."""
    path = root / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


def other_tokenizer(root: Path) -> None:
    """Two characters change places: every text still has ids, and they are others."""
    letters = ALPHABET[1] + ALPHABET[0] + ALPHABET[2:]
    character_tokenizer(letters).save_pretrained(root / "model")


def other_template(root: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(root / "model")
    tokenizer.chat_template = tokenizer.chat_template.replace("<|assistant|>", "<|assistant|>\n")
    tokenizer.save_pretrained(root / "model")


def other_data(root: Path) -> None:
    """Tokens of another seed, of the same total length, under the log-probs of the first."""
    tokens = np.load(root / "sequences" / "tokens.npy")
    np.save(root / "sequences" / "tokens.npy", np.roll(tokens, 1))


def other_mask(root: Path) -> None:
    """The same tokens with one more of them scored: its reference log-prob would be read as 0."""
    weights = np.load(root / "sequences" / "weights.npy")
    weights[np.flatnonzero(weights == 0)[-1]] = 1
    np.save(root / "sequences" / "weights.npy", weights)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_weights, "model"),
        (other_tokenizer, "tokenizer"),
        (other_template, "template"),
        (other_data, "data"),
        (other_mask, "data"),
    ],
)
def test_each_real_mismatch_is_named(scored: Path, tmp_path: Path, change: Callable[[Path], None], named: str) -> None:
    root = Path(shutil.copytree(scored, tmp_path / "run"))
    change(root)
    load_tokenizer.cache_clear()
    with pytest.raises(
        FingerprintError, match=rf"reference log-probs were made with another {named} \(\w+ there, \w+ here\)"
    ) as error:
        train(root, KtoObjective())
    others = {"model", "tokenizer", "template", "data", "pairs"} - {named}
    assert not [name for name in others if f"{name} (" in str(error.value)]
    assert not (root / "out").exists()


def test_other_overrides_are_another_model(scored: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(scored, tmp_path / "run"))
    with pytest.raises(FingerprintError, match="made with another model"):
        train(root, KtoObjective(), ModelOverrides(rope_theta=12345.0))


def test_mismatched_sequences_of_other_data_are_refused(scored: Path, tmp_path: Path) -> None:
    """Scored by the right model, but made from pairs of another seed."""
    root = Path(shutil.copytree(scored, tmp_path / "run"))
    store = tiny_store(12, seed=9, reference=False)
    store.save(tmp_path / "other")
    shutil.rmtree(root / "mismatched")
    mismatched_sequences(store).save(root / "mismatched")
    score(str(root / "model"), root / "mismatched", pairs=data_fingerprint(tmp_path / "other"))
    with pytest.raises(FingerprintError, match=r"mismatched: .* another pairs"):
        train(root, KtoObjective())


def test_a_reference_without_a_record_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """`write_inputs` makes up its log-probs and records nothing: fine for SimPO, not for DPO and the like."""
    write_inputs(tmp_path, num_pairs=12)
    with pytest.raises(FingerprintError, match=r"model \(nothing there"):
        train(tmp_path, KtoObjective(baseline="none"))
    shutil.rmtree(tmp_path / "scratch")
    train(tmp_path, SimpoObjective())


def test_without_a_reference_the_tokens_must_still_be_the_models(scored: Path, tmp_path: Path) -> None:
    """Tokens of another tokenizer would train without any error; weights may be others, since no log-prob is read."""
    root = Path(shutil.copytree(scored, tmp_path / "run"))
    other_weights(root)
    train(root, RediObjective())
    shutil.rmtree(root / "scratch")
    other_tokenizer(root)
    load_tokenizer.cache_clear()
    with pytest.raises(FingerprintError, match=r"these token arrays were made with another tokenizer \("):
        train(root, RediObjective())


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_saving_and_loading_a_tokenizer_does_not_make_it_another(tmp_path: Path, kind: str) -> None:
    """As happens between SFT and stage 2: the export has the tokenizer that was loaded, not the one that was made."""
    made = character_tokenizer(ALPHABET) if kind == "characters" else train_bpe_tokenizer([ALPHABET] * 20, 300)
    save_scratch_model(SIZES, made, tmp_path / "1")
    first = AutoTokenizer.from_pretrained(tmp_path / "1")
    first(["padded", "to one length"], padding=True, truncation=True, max_length=4)
    save_scratch_model(SIZES, first, tmp_path / "2")
    assert tokenizer_fingerprints(AutoTokenizer.from_pretrained(tmp_path / "2")) == tokenizer_fingerprints(first)


def test_a_shard_less_makes_another_model(tmp_path: Path) -> None:
    """Weights in several files: every one counts."""
    weights = {f"w{i}": torch.full((3,), float(i)) for i in range(2)}
    (tmp_path / "config.json").write_text("{}")
    for name, tensor in weights.items():
        save_file({name: tensor}, tmp_path / f"model-{name}.safetensors")
    whole = model_fingerprint(str(tmp_path), ModelOverrides())
    save_file({"w1": weights["w1"] + 1}, tmp_path / "model-w1.safetensors")
    assert model_fingerprint(str(tmp_path), ModelOverrides()) != whole
