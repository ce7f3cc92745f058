"""One rank's work with everything on S3 (a real server in this process): resumed, repaired, exported."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import SIZES, write_inputs

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.objectives import RediObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import ModelOverrides, ProbeSettings, TrainSettings
from redi_ray.errors import UserError
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage
from redi_ray.train.checkpoint import CheckpointError
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks
from redi_ray.train.monitors import read_metrics
from redi_ray.train.on_ray.launch import read_outcome
from redi_ray.train.on_ray.orders import STOP, Development, Orders
from redi_ray.train.on_ray.outside import listening
from redi_ray.train.on_ray.worker import train_and_export

PROBE = ProbeSettings(every=3, problems=30, max_tokens=8, temperature=1.0, batch_size=10)
SETTINGS = TrainSettings(
    learning_rate=1e-3, batch_size=4, epochs=1, tokens_per_pack=128, checkpoint_every=2, probe=PROBE
)
DIGITS = AnswerSettings(extract=[r"regex:([0-9])"])
"""What a model of random weights writes holds a digit often enough."""


class Killed(BaseException):
    """Stands for a `kill -9`: nothing of ours catches it."""


def make_orders(root: str) -> Orders:
    return Orders(
        model_path=f"{root}/model",
        overrides=ModelOverrides(),
        sequences_uri=f"{root}/sequences",
        mismatched_uri=None,
        objective=RediObjective(),
        settings=SETTINGS,
        out_uri=f"{root}/out",
        name="tiny",
        threads=1,
        trackers=("tensorboard",),
        watch_nodes=False,
        development=Development(f"{root}/dev", PromptSettings(prefix=""), DIGITS),
    )


def write_all(folder: Path, *roots: str) -> None:
    """The inputs of a orders, with development problems, below each of the `roots`."""
    rows = [{"problem_id": f"p{i}", "problem": str(i), "answer": str(i % 10), "source": None} for i in range(40)]
    for root in roots:
        parquet.write_table(f"{root}/dev/part-00000.parquet", pa.Table.from_pylist(rows, schema=PROBLEM))
        for inputs in write_inputs(folder):
            storage.upload(inputs, f"{root}/{Path(inputs).name}")


def work(orders: Orders, scratch: Path, kill_after_step: int | None = None) -> None:
    def kill(step: int, metrics: object) -> None:
        if step == kill_after_step:
            raise Killed

    scratch.mkdir()
    train_and_export(orders, Distributed(), scratch, Hooks(on_step=kill))


def test_everything_on_s3(bucket: str, tmp_path: Path) -> None:
    """Killed at step 7 with the newest checkpoint (6 steps) then damaged: goes on from 4, as if nothing had happened."""
    write_all(tmp_path, f"{bucket}/a", f"{bucket}/b")
    undisturbed, killed = make_orders(f"{bucket}/a"), make_orders(f"{bucket}/b")
    work(undisturbed, tmp_path / "1")
    with pytest.raises(Killed):
        work(killed, tmp_path / "2", kill_after_step=7)
    assert read_outcome(killed.out_uri) is None
    shards = storage.list_files(f"{killed.out_uri}/checkpoints", ".distcp")
    assert [shard.split("/")[-2][:13] for shard in shards] == ["step-00000004", "step-00000006"]
    content = bytearray(storage.read_bytes(shards[-1]))
    content[100] ^= 1
    storage.write_bytes(shards[-1], bytes(content))

    work(killed, tmp_path / "3")
    outcome = read_outcome(killed.out_uri)
    assert outcome is not None
    assert (outcome.status, outcome.steps) == ("done", 10)
    assert any("/tensorboard/" in uri for uri in storage.list_files(killed.out_uri))
    rows, weights = [], []
    for orders, name in ((undisturbed, "a"), (killed, "b")):
        storage.download(orders.out_uri, tmp_path / name)
        rows.append(read_metrics(tmp_path / name / "metrics.jsonl"))
        weights.append(load_file(tmp_path / name / "export" / "model.safetensors"))
    assert [row["step"] for row in rows[1]] == list(range(10))
    for name in ("loss", "dev_accuracy"):
        assert [row.get(name) for row in rows[0]] == [row.get(name) for row in rows[1]]
    measured = {row["step"]: row["dev_accuracy"] for row in rows[0] if "dev_accuracy" in row}
    assert list(measured) == [0, 2, 5, 8, 9]
    assert 0 < sum(measured.values()) < len(measured)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_asked_to_stop_it_saves_and_leaves_no_export_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """What the driver's SIGTERM comes to: a file that rank 0 looks for beside the steps."""
    calm, stopped = make_orders(str(tmp_path / "calm")), make_orders(str(tmp_path / "stopped"))
    write_all(tmp_path, str(tmp_path / "calm"), str(tmp_path / "stopped"))
    work(calm, tmp_path / "1")

    def ask(step: int, metrics: object) -> None:
        if step == 4:
            storage.write_bytes(f"{stopped.bookkeeping}/{STOP}", b"")
            time.sleep(1)  # the look at it comes in time

    (tmp_path / "2").mkdir()
    with listening(stopped, Distributed()) as outside:
        hooks = Hooks(on_step=ask, stop_requested=outside.hooks().stop_requested)
        assert train_and_export(stopped, Distributed(), tmp_path / "2", hooks) == "preempted"
    assert read_outcome(stopped.out_uri) is None
    seals = storage.list_files(f"{stopped.out_uri}/checkpoints", "files.json")
    assert [seal.split("/")[-2][:13] for seal in seals][-1] == "step-00000006"
    storage.delete(stopped.bookkeeping)
    work(stopped, tmp_path / "3")
    weights = [load_file(Path(orders.out_uri) / "export" / "model.safetensors") for orders in (calm, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_best_checkpoint_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, str(tmp_path / "a"))
    orders = make_orders(str(tmp_path / "a"))
    settings = replace(SETTINGS, checkpoint_every=3, keep_last=1, keep_best="dev_accuracy")
    work(replace(orders, settings=settings), tmp_path / "1")
    outcome = read_outcome(orders.out_uri)
    assert outcome is not None
    measured = {row["step"]: row.get("dev_accuracy") for row in read_metrics(Path(outcome.metrics_uri))}
    best = outcome.facts["best_checkpoint"]
    assert best["dev_accuracy"] == max(measured[step] for step in (2, 5, 8, 9))
    names = {path.name for path in (Path(orders.out_uri) / "checkpoints").iterdir()}
    assert best["name"] in names
    assert len(names) <= 2


def test_other_settings_are_refused(bucket: str, tmp_path: Path) -> None:
    """In the same folder they would go on from weights that they did not make."""
    write_all(tmp_path, f"{bucket}/c")
    orders = make_orders(f"{bucket}/c")
    with pytest.raises(Killed):
        work(orders, tmp_path / "1", kill_after_step=3)
    changed = replace(orders, settings=replace(SETTINGS, learning_rate=2e-3))
    with pytest.raises(CheckpointError, match=r"\(settings differ\)"):
        work(changed, tmp_path / "2")
    harmless = replace(orders, settings=replace(SETTINGS, checkpoint_every=5, keep_last=3))
    work(harmless, tmp_path / "3")
    assert read_outcome(orders.out_uri) is not None


def test_what_the_model_has_no_vector_or_position_for_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """Sequences of up to 39 tokens out of 61: for a model of 20 tokens, then of 16 positions, which drops what is longer."""
    write_all(tmp_path, str(tmp_path / "a"))
    orders = replace(make_orders(str(tmp_path / "a")), settings=replace(SETTINGS, probe=None))
    save_scratch_model(SIZES, character_tokenizer("01234"), tmp_path / "few")
    with pytest.raises(UserError, match="tokenizer that is larger than the model"):
        work(replace(orders, model_path=str(tmp_path / "few")), tmp_path / "1")
    overrides = ModelOverrides(max_position_embeddings=16)
    with pytest.raises(ValueError, match="longer than max_position_embeddings = 16"):
        work(replace(orders, overrides=overrides), tmp_path / "2")
    work(replace(orders, overrides=overrides, settings=replace(orders.settings, on_too_long="drop")), tmp_path / "3")
    outcome = read_outcome(orders.out_uri)
    assert outcome is not None
    assert outcome.facts["dropped_groups"] > 0
    assert 0 < outcome.facts["sequences"] < 80


def test_what_stage_2_starts_from_keeps_what_a_narrow_export_rounds_away(tmp_path: Path) -> None:
    """At a learning rate of 1e-7 with exports in bfloat16: the float32 weights lie beside, and the manifest has the loss."""
    write_all(tmp_path, str(tmp_path / "a"))
    settings = replace(SETTINGS, probe=None, learning_rate=1e-7, export_dtype="bfloat16")
    orders = replace(make_orders(str(tmp_path / "a")), settings=settings, keep_float32=True)
    work(orders, tmp_path / "1")
    outcome = read_outcome(orders.out_uri)
    assert outcome is not None
    rounding = outcome.facts["rounding"]
    assert rounding["dtype"] == "bfloat16"
    assert rounding["kept"] < 0.2
    assert outcome.facts["float32"] == f"{orders.out_uri}/float32"
    start, export, exact = (
        load_file(f"{folder}/model.safetensors")
        for folder in (orders.model_path, outcome.export_uri, outcome.facts["float32"])
    )
    assert {t.dtype for t in export.values()} == {torch.bfloat16}
    moved = sum(int((exact[name] != start[name]).sum()) for name in start)
    kept = sum(int(((exact[name] != start[name]) & (export[name] != start[name].bfloat16())).sum()) for name in start)
    assert (rounding["moved"], rounding["kept"]) == (moved, pytest.approx(kept / moved))
    assert all(torch.equal(exact[name].bfloat16(), export[name]) for name in export)
    assert sorted(p.name for p in Path(orders.out_uri).iterdir()) == [
        "checkpoints",
        "export",
        "float32",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_weights_that_were_cut_off_are_told_and_not_tried_again(tmp_path: Path) -> None:
    """As by a download that ended early: the same file would be read at every attempt."""
    model, _ = write_inputs(tmp_path)
    weights = Path(model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(UserError, match=r"model: its weights are cut off or damaged .*; fetch them again"):
        train_and_export(make_orders(str(tmp_path)), Distributed(), scratch, Hooks())
