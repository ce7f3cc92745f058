"""What distillation at scale costs: every model by its own size, distributions of all samples, and the bytes that they take."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_configs import planned

from redi_ray.cli.plan import make_inputs
from redi_ray.config.load import load_config

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "distil_qwen2.5_7b_to_1.5b.yaml"


def test_a_7b_teacher_of_a_1_5b_student_is_priced() -> None:
    """20,000 problems with 4 samples each: the teacher's, and later the student's, all of which the teacher scores."""
    inputs = make_inputs(load_config(str(CONFIG)), "H100", [], 100)
    plan = planned(inputs, {"own_correct_share": 0.6, "completion_tokens": 1000, "prompt_tokens": 100})
    stages = {stage.name: stage for stage in plan.stages}
    assert stages["taught"].sequences == stages["own"].sequences == stages["judged"].sequences == 80_000
    assert stages["soft"].sequences == pytest.approx(48_000)
    each = {name: stages[name].gpu_hours / stages[name].tokens for name in ("taught", "own", "soft", "judged")}
    assert 2 < each["taught"] / each["own"] < 6
    assert each["soft"] == pytest.approx(each["judged"], rel=0.05)
    assert (
        stages["evaluate (5 models)"].sequences == 5 * stages["evaluate (1 models, Qwen/Qwen2.5-7B-Instruct)"].sequences
    )
    assert stages["evaluate (1 models, Qwen/Qwen2.5-7B-Instruct)"].steps == ["eval/teacher"]
    scored = stages["soft"].tokens - 100 * stages["soft"].sequences
    assert plan.storage["steps/soft/column"] == pytest.approx(260 * scored, rel=1e-6)
    for name in ("steps/right/groups", "steps/texts/sequences", "steps/forward/sequences"):
        assert plan.storage[name] > 260 * scored, name
    assert plan.storage["steps/pairs/groups"] > 0
    judged = 4 * (stages["judged"].tokens - 100 * stages["judged"].sequences)
    assert plan.storage["steps/said/column"] == plan.storage["steps/judged/column"] == pytest.approx(judged, rel=1e-6)
    assert plan.storage["steps/on_policy/sequences"] > 2 * judged, "which holds both columns again"
    assert plan.gpu_hours == pytest.approx(sum(stage.gpu_hours for stage in plan.stages))
