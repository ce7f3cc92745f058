"""Each kind of work lands on the node that its selector names, on a real Ray of two nodes.

The driver sits on the head, which has room for everything: without its selector all of this would run there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from curation_runs import PROMPT, solved, write_shards
from ray_nodes import ray_nodes
from test_collect import SAMPLING, forty, teacher
from tiny_runs import PLAIN_SETTINGS, write_inputs

from redi_ray.cluster.capacity import CapacityError, alive_nodes, check_capacity, stands_still
from redi_ray.config.answers import VerifySettings
from redi_ray.config.curation import CurateConfig
from redi_ray.config.load import load_config
from redi_ray.config.objectives import RediObjective
from redi_ray.config.resources import EngineSettings, RaySettings, ResourceSettings, TrainerSettings
from redi_ray.config.student import Architecture
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.curate.curate import curate
from redi_ray.data.sample.collect import Verification, collect
from redi_ray.data.sample.engines import actor_options
from redi_ray.data.sample.samples import Sampling
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.verify.traces import verify_traces
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.search.evaluator import start_evaluator
from redi_ray.stages.references import _score
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.train.on_ray.launch import launch_training

pytestmark = [pytest.mark.long, pytest.mark.own_ray]
THERE = {"pool": "there"}
FAST = VerifySettings(timeout_seconds=2)
FEW_TOKENS = Sampling(1.0, 1.0, 8, 0)


@pytest.fixture(scope="module")
def there() -> Iterator[str]:
    """A Ray of two nodes, connected from the head; the id of the other, whose label is `pool: there`."""
    with ray_nodes([{"pool": "here"}, THERE], num_gpus=2) as (_, (_, other)):
        yield other.node_id


@contextmanager
def actors(name: str) -> Iterator[set[str]]:
    """Ids of the nodes where actors live whose class has this name, seen while the block runs."""
    import ray

    nodes, stop = set[str](), threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            for actor in ray._private.state.actors(actor_state_name="ALIVE").values():
                if name in actor["ActorClassName"]:
                    nodes.add(actor["Address"]["NodeID"])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield nodes
    finally:
        stop.set()
        thread.join()


def test_verification_and_curation(there: str, tmp_path: Path):
    """Of shards, of what is being sampled, and curation."""
    with actors("_VerifyWritten") as nodes:
        verification = Verification(str(tmp_path / "verified"), FAST, 1, THERE)
        collect(
            forty(), teacher, model="reckoner", sampling=SAMPLING, out_uri=str(tmp_path / "traces"), shard_rows=10,
            verification=verification,
        )  # fmt: skip
    assert nodes == {there}
    shards = storage.list_files(str(tmp_path / "traces"), ".parquet")
    with actors("VerifyShards") as nodes:
        verify_traces(shards, str(tmp_path / "again"), FAST, concurrency=2, label_selector=THERE)
    assert nodes == {there}
    train_bpe_tokenizer(["Find the value of x."], 300).save_pretrained(tmp_path / "tokenizer")
    verified = write_shards(tmp_path, [solved([f"what is {n}?" for n in range(8)])])
    with actors("Worker") as nodes:
        counts = curate(
            verified, str(tmp_path / "out"), CurateConfig(), tokenizer=str(tmp_path / "tokenizer"), prompt=PROMPT, num_problems=8,
            label_selector=THERE,
        )  # fmt: skip
    assert counts.pairs == 8
    assert nodes == {there}


def test_training_and_the_reference(there: str, tmp_path: Path):
    """Ranks, the actors that score the reference, the evaluator of a search."""
    model, sequences = write_inputs(tmp_path / "inputs", num_pairs=8)
    settings = TrainSettings(**(PLAIN_SETTINGS | {"epochs": 1}))  # type: ignore[arg-type]
    with actors("RayTrainWorker") as nodes:
        outcome = launch_training(
            model_path=model, overrides=ModelOverrides(), sequences_uri=sequences, objective=RediObjective(),
            settings=settings, out_uri=str(tmp_path / "run"),
            trainer=TrainerSettings(num_workers=2, label_selector=THERE, trackers=[]),
        )  # fmt: skip
    assert outcome.status == "done"
    assert nodes == {there}
    config = load_config("configs/demo.yaml", ["resources.trainer.label_selector={pool: there}"])
    run = Run.of(config)
    stage = run.stage("references", {}, {})
    stage.uri = str(tmp_path / "references")
    with actors("_ScoreShard") as nodes:
        todo = [{"first": 0, "last": 4, "tokens": 1}]
        assert len(list(_score(todo, stage, sequences, model, ModelOverrides(), settings, run))) == 1
    assert nodes == {there}
    with actors("Evaluator") as nodes:
        evaluator = start_evaluator(EngineSettings(device="cpu", label_selector=THERE))
        wait_for(nodes)
    del evaluator
    assert nodes == {there}


def wait_for(nodes: set[str]) -> None:
    deadline = time.monotonic() + 60
    while not nodes and time.monotonic() < deadline:
        time.sleep(0.1)


def tiny_speaker(folder: Path) -> str:
    """A model with random weights that knows every text."""
    tokenizer = train_bpe_tokenizer(["Find the value of x."], 300)
    save_scratch_model(Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2), tokenizer, folder)
    return str(folder)


def test_an_engine(there: str, tmp_path: Path):
    """A real vLLM engine on CPU draws its samples there."""
    model = tiny_speaker(tmp_path)
    engine = EngineSettings(device="cpu", dtype="float32", max_model_len=512, label_selector=THERE)
    requests = forty().dataset.limit(4)
    with actors("EngineActor") as nodes, vllm_sampler(model, engine, FEW_TOKENS, PROMPT) as sampler:
        drawn = pa.concat_tables(sampler(requests).iter_batches(batch_size=None, batch_format="pyarrow"))
    assert drawn.num_rows == 4
    assert drawn["failure"].to_pylist() == [None] * 4
    assert nodes == {there}


def test_an_engine_of_several_gpus_is_there_with_all_of_them(there: str):
    """The GPUs are Ray's word only: what is looked at is where Ray starts an actor with the engine's options."""
    import ray

    engine = EngineSettings(device="gpu", tensor_parallel_size=2, label_selector=THERE)
    options = actor_options(engine)

    class Where:
        def look(self) -> tuple[str, int]:
            context = ray.get_runtime_context()
            return context.get_node_id(), len(context.get_accelerator_ids()["GPU"])

    names = ("num_cpus", "num_gpus", "label_selector")
    actor = ray.remote(Where).options(**{name: options[name] for name in names}).remote()
    assert ray.get(actor.look.remote(), timeout=60) == (there, 2)


def test_a_worker_larger_than_every_node_is_refused_where_no_node_will_come(there: str):
    """Two nodes of 4 CPUs that were started by hand hold 8 in all; what fits on one but finds no room now is only said."""
    joined = ResourceSettings(ray=RaySettings(address="auto"))
    deadline = time.monotonic() + 30
    while not stands_still(alive_nodes()) and time.monotonic() < deadline:  # Ray's monitor looks every 5 s
        time.sleep(0.5)
    with pytest.raises(CapacityError, match=r"asks for 8 CPU on one node, and this cluster will never have one"):
        check_capacity(joined, {}, trainers={"resources.trainer": TrainerSettings(cpus_per_worker=8)})
    check_capacity(joined, {}, trainers={"resources.trainer": TrainerSettings(cpus_per_worker=3, num_workers=9)})
