"""A KTO arm from curated pairs on: sequences, mismatched sequences, the reference's log-probs of both, training. The
stages run on Ray; what they wrote is compared with the model itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from redi_ray.cluster.capacity import CapacityError
from redi_ray.config.load import load_config
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import PAIR
from redi_ray.stages import training
from redi_ray.stages.references import half_precision, references, require_gpu_memory, split_store, start_of
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import build_mismatched
from redi_ray.store import manifests, parquet, storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.fingerprints import FingerprintError, read_record
from redi_ray.train.mismatched import mismatched_sequences
from redi_ray.train.monitors import read_metrics
from redi_ray.train.records import SequenceRecord
from redi_ray.train.references import reference_logps
from redi_ray.train.sequences import SequenceStore


def pair(number: int) -> dict:
    return {
        "pair_id": f"{number:02d}",
        "problem_id": str(number),
        "prompt": [{"role": "user", "content": f"{number}+{number}"}],
        "chosen": [{"role": "assistant", "content": f"<think>\n{2 * number}</think>{2 * number}"}],
        "rejected": [{"role": "assistant", "content": f"<think>\n{number}</think>{number}+{number}={number}"}],
    }


TRAIN = ["redi.train.batch_size=4", "redi.train.learning_rate=3e-5", "redi.train.epochs=1"]


class Inputs:
    """A run, curated pairs, and a checkpoint that is base, SFT model and reference in one."""

    def __init__(self, folder: Path) -> None:
        changes = ["redi.arms={kto: {objective: {name: kto}}, dpo: {objective: {name: dpo}}}", "redi.train.max_steps=3"]
        self.run = Run.of(load_config("configs/demo.yaml", [*TRAIN, *changes, f"storage.root={folder}"]))
        model = folder / "model"
        save_scratch_model(self.run.config.model.init.architecture, character_tokenizer("0123456789+="), model)
        self.start = Stage(self.run.uri, "checkpoints/base", {}, {}).publish(facts={"export": str(model)})
        curated = Stage(self.run.uri, "curated", {}, {})
        rows = pa.Table.from_pylist([pair(n) for n in range(10)], schema=PAIR)
        parquet.write_table(f"{curated.uri}/pairs/part-0.parquet", rows)
        self.curated = curated.publish(counts={"pairs": 10}, facts={"pairs_dropped": {}})

    def arm(self, name: str) -> Manifest:
        recipe = training.arm_recipe(self.run.config, name)
        inputs = {"groups": self.curated, "base": self.start, "start": self.start}
        return training.train(self.run, training.prepare(self.run, name, recipe, inputs))


def arrays(manifest: Manifest) -> Path:
    return Path(manifest.uri) / "arrays"


def of_stage(run: Run, stage: str) -> Path:
    return arrays(manifests.current_manifest(run.uri, stage))


def assert_scored_by(model: str, folder: Path) -> None:
    store = SequenceStore.load(folder)
    index, logps = reference_logps(
        load_policy(model, ModelOverrides()).eval(), store, np.arange(len(store)), tokens_per_pack=99, chunk_tokens=9
    )
    np.testing.assert_allclose(store.ref_logps[index], logps, rtol=1e-4, atol=1e-5)
    assert (store.ref_logps[store.weights == 0] == 0).all()


def test_an_arm_with_a_mismatched_baseline(ray_session: None, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    run, export = inputs.run, inputs.start.facts["export"]
    kto = inputs.arm("kto")
    own, others = of_stage(run, "references"), of_stage(run, "references/mismatched")
    for folder in (own, others):
        assert_scored_by(export, folder)
    expected = mismatched_sequences(SequenceStore.load(own))
    np.testing.assert_array_equal(SequenceStore.load(others).tokens, expected.tokens)
    assert set(read_record(others)) - set(read_record(own)) == {"pairs"}
    # The policy starts as the reference: no reward, no divergence. Wrong log-probs of either kind would show.
    first, *_, last = read_metrics(Path(kto.uri) / "metrics.jsonl")
    assert (first["loss"], first["kl"]) == (pytest.approx(0.5, abs=1e-5), pytest.approx(0, abs=1e-4))
    assert abs(last["loss"] - 0.5) > 1e-4, "then it moves"
    # An arm without a baseline finds its references done.
    sequences, settings = manifests.current_manifest(run.uri, "sequences/pairs"), run.config.redi.settings("dpo")
    assert references(run, sequences, inputs.start, settings).uri == str(own.parent)

    other = tmp_path / "other"
    save_scratch_model(run.config.model.init.architecture, character_tokenizer("9876543210+="), other)
    manifest = Stage(run.uri, "checkpoints/base", {"other": 1}, {}).publish(facts={"export": str(other)})
    with pytest.raises(FingerprintError, match="made with another tokenizer"):
        references(run, sequences, manifest, settings)


def test_arrays_that_are_not_those_of_their_record_are_not_scored(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    SequenceStore.from_records([SequenceRecord(0, 1, [5, 6], 1)]).save(tmp_path / "arrays")
    storage.write_json(f"{tmp_path}/arrays/made_with.json", {"data": "0" * 64})
    with pytest.raises(FingerprintError, match=r"another tokenizer .*data"):
        split_store(f"{tmp_path}/arrays", inputs.start.facts["export"])


def test_a_single_pair_has_no_mismatched_baseline(tmp_path: Path) -> None:
    SequenceStore.from_records([SequenceRecord(0, side, [5, 6], 1) for side in (1, -1)]).save(tmp_path / "arrays")
    with pytest.raises(DataError, match=r"at least two groups.*baseline to none"):
        build_mismatched(f"{tmp_path}/arrays", f"{tmp_path}/out")


def test_training_and_reference_start_from_float32_where_the_export_is_narrower():
    """Both from the same folder, or their fingerprints differed."""
    narrow = Manifest("checkpoints/sft", "k", "a", {}, {}, facts={"export": "a/export", "float32": "a/float32"})
    assert start_of(narrow) == "a/float32"
    assert start_of(Manifest("checkpoints/sft", "k", "a", {}, {}, facts={"export": "a/export"})) == "a/export"


def test_a_reference_that_no_gpu_holds_is_refused_before_it_is_loaded(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
):
    """By the size of its weights in the type that they are scored in."""
    monkeypatch.setattr("redi_ray.stages.references.remotely", lambda *_, **__: 24 << 30)
    require_gpu_memory(16 << 30, {})
    with pytest.raises(CapacityError, match=r"take 28.0 GiB, and a GPU here has 24.0 GiB.*an objective without"):
        require_gpu_memory(28 << 30, {})
    on_gpu, bf16 = TrainerSettings(use_gpu=True), TrainSettings(precision="bf16")
    fp32 = TrainSettings(precision="fp32")
    assert half_precision(TrainSettings(), on_gpu)
    assert half_precision(bf16, TrainerSettings())
    assert not half_precision(TrainSettings(), TrainerSettings())
    assert not half_precision(fp32, on_gpu)
