"""How many trials fit is counted in whole workers on real nodes, so that a search neither starves nor idles."""

from __future__ import annotations

from pathlib import Path

import pytest

from redi_ray.cluster.capacity import CapacityError
from redi_ray.config.load import load_config
from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.search.capacity import (
    Needs,
    float32_copy,
    needs_of,
    plan_concurrency,
    require_dashboard,
    trials_at_a_time,
)

GPU_NODE = {"CPU": 32.0, "GPU": 8.0}
ONE_CPU = Needs(1, {"CPU": 1.0}, {})


@pytest.mark.parametrize(
    ("nodes", "needs", "fitting"),
    [
        (
            [{"CPU": 8.0}],
            ONE_CPU,
            6,
        ),  # a CPU stays free for small tasks, and each trial has its leader beside the worker
        ([{"CPU": 2.0}], ONE_CPU, 1),
        ([{"CPU": 1.0}], ONE_CPU, 0),  # worker and leader together want 1.1
        ([{"CPU": 3.0}] * 3, Needs(1, {"CPU": 2.0}, {}), 3),  # one per node, though 9 CPUs would make 4
        ([{"CPU": 3.0}] * 3, Needs(2, {"CPU": 2.0}, {}), 1),
        ([GPU_NODE] * 2, Needs(4, {"CPU": 1.0, "GPU": 1.0}, {}), 4),
        ([GPU_NODE] * 2, Needs(4, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}, 2), 3),  # the engine takes a GPU
        ([GPU_NODE], Needs(8, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}), 0),
        ([{"CPU": 64.0}], Needs(1, {"CPU": 1.0, "GPU": 1.0}, {}), 0),
        ([], ONE_CPU, 0),
    ],
)
def test_whole_workers_on_real_nodes(nodes: list[dict], needs: Needs, fitting: int):
    assert trials_at_a_time(nodes, needs) == fitting


def test_trials_of_a_range_are_counted_with_the_most_ranks():
    """What one takes beyond its fewest, another would wait for; one alone begins with what is there."""
    needs = needs_of(TrainerSettings(num_workers=(2, 4)), None, 1)
    assert [trials_at_a_time([{"CPU": cpus}], needs) for cpus in (1.0, 3.0, 6.0, 10.0)] == [0, 1, 1, 2]
    assert str(needs) == "2 to 4 worker(s) of 1 CPU per trial"


def test_needs_follow_from_the_config():
    trainer = TrainerSettings(num_workers=2, use_gpu=True, cpus_per_worker=3)
    needs = needs_of(trainer, EngineSettings(device="gpu", tensor_parallel_size=2), verify_workers=4)
    assert (needs.workers, needs.worker, needs.engine) == (2, {"CPU": 3, "GPU": 1.0}, {"CPU": 2.0, "GPU": 2.0})
    assert needs.evaluation_cpus == 4
    assert needs_of(trainer, None, 4).engine == {}
    piped = EngineSettings(tensor_parallel_size=2, engine_kwargs={"pipeline_parallel_size": 2})
    assert needs_of(trainer, piped, 1).engine == {"CPU": 4.0, "GPU": 4.0}
    assert needs_of(trainer, EngineSettings(device="cpu", cpu_threads=3), 1).engine == {"CPU": 3.0}


def test_the_check_of_an_engines_weights_needs_memory_for_a_float32_copy():
    """transformers holds one beside the engine, on the CPU."""
    config = load_config("configs/search_demo.yaml", ["model.init={kind: pretrained, path: Qwen/Qwen2.5-7B}"])
    copy = float32_copy(config)
    assert copy == 4 * 7_615_616_512
    needs = needs_of(TrainerSettings(), EngineSettings(device="gpu"), 1, copy)
    assert needs.engine == {"CPU": 1.0, "GPU": 1.0, "memory": copy}
    assert "an engine of 1 CPU + 1 GPU + 28.4 GiB memory" in str(needs)
    room = {"CPU": 8.0, "GPU": 1.0}
    assert trials_at_a_time([room | {"memory": 32 * 2.0**30}], needs) == 4
    assert trials_at_a_time([room | {"memory": 16 * 2.0**30}], needs) == 0
    assert trials_at_a_time([room], needs) == 4, "an autoscaler may not tell its nodes' memory"
    unknown = load_config("configs/search_demo.yaml", ["model.init={kind: pretrained, path: nobody/nothing}"])
    assert float32_copy(unknown) == 0


def test_a_folder_is_counted_by_its_files(tmp_path: Path):
    """Of any architecture, a mixture of experts too, whose sizes the plan does not know."""
    (tmp_path / "config.json").write_text('{"model_type": "mixtral", "dtype": "bfloat16"}')
    (tmp_path / "model-00001-of-00001.safetensors").write_bytes(bytes(2000))
    config = load_config("configs/search_demo.yaml", [f"model.init={{kind: pretrained, path: {tmp_path}}}"])
    assert float32_copy(config) == 4 * 1000


def test_ranks_take_memory_beside_the_engine():
    """The evaluator holds its copy for the whole search: ranks that find no room beside it would wait for ever."""
    needs = needs_of(TrainerSettings(), EngineSettings(device="cpu"), 1, 4 * 2.0**30, 16 * 2.0**30)
    assert needs.worker == {"CPU": 1.0, "memory": 16 * 2.0**30}
    room = {"CPU": 8.0}
    assert trials_at_a_time([room | {"memory": 19 * 2.0**30}], needs) == 0
    assert trials_at_a_time([room | {"memory": 20 * 2.0**30}], needs) == 1
    assert trials_at_a_time([room | {"memory": 36 * 2.0**30}], needs) == 2
    assert needs_of(TrainerSettings(), None, 1).worker == {"CPU": 1.0}, "where the model's size is not known"


def test_workers_and_engine_count_on_their_own_nodes_only():
    """GPUs of the engines' nodes are no room for ranks, and the other way round."""
    nodes, labels = [GPU_NODE] * 3, [{"pool": "train"}, {"pool": "engine"}, {"pool": "engine"}]
    worker = {"CPU": 1.0, "GPU": 1.0}
    on_train = Needs(4, worker, {}, worker_labels={"pool": "train"})
    assert trials_at_a_time(nodes, on_train, labels) == 2
    assert trials_at_a_time(nodes, on_train) == 6, "labels that are not known are no reason to refuse"
    with_engine = Needs(4, worker, worker, worker_labels={"pool": "train"}, engine_labels={"pool": "engine"})
    assert trials_at_a_time(nodes, with_engine, labels) == 2, "the engine takes no GPU from training"
    nowhere = Needs(4, worker, worker, worker_labels={"pool": "train"}, engine_labels={"pool": "spot"})
    assert trials_at_a_time(nodes, nowhere, labels) == 0
    trainer, engine = (
        TrainerSettings(label_selector={"pool": "train"}),
        EngineSettings(label_selector={"pool": "engine"}),
    )
    needs = needs_of(trainer, engine, 1)
    assert (needs.worker_labels, needs.engine_labels) == ({"pool": "train"}, {"pool": "engine"})
    assert "on nodes with {'pool': 'train'} per trial" in str(needs)


def test_what_this_ray_can_never_hold_is_refused(ray_session: None):
    """The session's Ray has 8 CPUs and no GPU."""
    assert plan_concurrency(ONE_CPU, None, 16, local=False)[0] == 6
    assert plan_concurrency(ONE_CPU, 2, 16, local=False)[0] == 2
    chosen, told = plan_concurrency(ONE_CPU, 4, 3, local=False)
    assert (chosen, told) == (3, "3 trials, 3 at a time: 1 worker(s) of 1 CPU per trial")
    with pytest.raises(
        CapacityError, match=r"9 worker\(s\) of 1 CPU per trial: the cluster can never hold that, it has 8 CPU"
    ):
        plan_concurrency(Needs(9, {"CPU": 1.0}, {}), None, 4, local=True)
    with pytest.raises(CapacityError, match="1 CPU \\+ 1 GPU per trial"):
        plan_concurrency(Needs(1, {"CPU": 1.0, "GPU": 1.0}, {}), None, 4, local=True)
    with pytest.raises(CapacityError, match=r"on nodes with \{'pool': 'train'\} .* the labels none \(1\)"):
        plan_concurrency(Needs(1, {"CPU": 1.0}, {}, worker_labels={"pool": "train"}), None, 4, local=True)


def test_a_scheduler_needs_the_dashboard(ray_session: None):
    """The session's Ray has none; trials that were stopped there would keep their workers."""
    with pytest.raises(CapacityError, match="without its dashboard"):
        require_dashboard()
