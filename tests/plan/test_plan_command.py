"""What `redi-ray plan` says of configs of every kind, held against real runs and real data where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.plan.shapes import EXAMPLE

RUNNER = CliRunner()
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEMO, PAPER = str(CONFIGS / "demo.yaml"), str(CONFIGS / "paper/qwen2.5_math_1.5b.yaml")
SERVED, SOLUTIONS = str(CONFIGS / "endpoint_and_judge.yaml"), str(CONFIGS / "gsm8k_traces.yaml")
HUB = "problems.source={kind: hub, dataset: a/b, columns: {completion: c}}"


def planned(config: str, *arguments: str) -> dict[str, Any]:
    result = RUNNER.invoke(app, ["plan", config, *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def stage_of(plan: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in plan["stages"] if stage["name"].startswith(name))


@pytest.fixture
def problems(tmp_path: Path) -> str:
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"problem": f"What is {i} + 2?", "answer": str(i + 2)}) + "\n" for i in range(30))
    )
    return f"problems.source.paths=[{path}]"


def test_the_demo_is_planned_as_it_runs():
    """Lengths recorded from a run with 96 problems on CPU: 384 traces had 12,308 tokens, 58 examples 2,661 and their 54 pairs
    5,000."""
    running = ray.is_initialized()
    plan = planned(DEMO, "problems.source.num_problems=96", "generate.max_rounds=1", "--assume", f"solved_share={58 / 96}",
                   "--assume", f"paired_share={54 / 96}")  # fmt: skip
    assert plan["model"]["parameters"] == 528_768
    generate, sft, redi = (stage_of(plan, name) for name in ("generate", "sft", "redi"))
    assert generate["sequences"] == 384
    assert generate["tokens"] == pytest.approx(12_308, rel=0.1)
    assert sft["tokens"] == pytest.approx(8 * 2_661, rel=0.1)
    assert redi["tokens"] == pytest.approx(3 * 5_000, rel=0.1)
    assert plan["total"]["gpu_hours"] is None
    assert all(stage["gpu_hours"] is None for stage in plan["stages"])
    assert all(memory["room"] is None and memory["memory"]["peak"] > 0 for memory in plan["memory"])
    assert ray.is_initialized() == running


def test_an_engines_limits_are_those_of_its_gpu():
    """Short samples of a small model fill the scheduler before the memory: 1,024 on an H100, 256 on an A100 of the same size."""

    def at_a_time(gpu: str, *arguments: str) -> str:
        short = ("resources.engine={device: gpu, dtype: bfloat16}", "--gpu", gpu)
        return stage_of(planned(DEMO, *short, *arguments), "generate")["note"]

    assert "1024 sequences at a time" in at_a_time("H100")
    assert "256 sequences at a time" in at_a_time("A100-80GB")
    assert "96 sequences at a time" in at_a_time("H100", "resources.engine.engine_kwargs={max_num_seqs: 96}")


def test_without_a_gpu_the_table_says_so():
    shown = RUNNER.invoke(app, ["plan", DEMO]).stdout
    assert "everything runs on CPU here, so GPU-hours do not apply" in shown
    assert "dominates" in shown


def test_local_traces_are_counted_not_assumed(test_data: Path):
    """The data's own README: 1,319 problems, 5,276 traces of four models, 2,001 right, 731 problems with both."""
    path = test_data / "traces/gsm8k_openai_example_model_solutions.jsonl.gz"
    plan = planned(SOLUTIONS, f"problems.source.paths=[{path}]", "evaluate.benchmarks=[]", "--sample", "2000")
    found = {each["name"]: each for each in plan["assumptions"]}
    assert found["problems"]["value"] == 1_319
    assert found["traces_per_problem"]["value"] == 4
    assert found["correct_share"]["value"] == pytest.approx(2_001 / 5_276)
    assert found["paired_share"]["value"] == pytest.approx(731 / 1_319, abs=0.005)  # a few are longer than the limit
    assert found["completion_tokens"]["value"] < 300  # a few sentences, no long chain of thought
    assert "length_spread" not in found
    assert not any(stage["name"] == "generate" for stage in plan["stages"])
    part = planned(SOLUTIONS, f"problems.source.paths=[{path}]", "evaluate.benchmarks=[]", "--sample", "200")
    few = {each["name"]: each for each in part["assumptions"]}
    assert few["problems"]["value"] == 1_319
    assert few["paired_share"]["low"] < found["paired_share"]["value"] < few["paired_share"]["high"]
    one = planned(SOLUTIONS, f"problems.source.paths=[{path}]", "evaluate.benchmarks=[]", "--sample", "1")
    share = next(each for each in one["assumptions"] if each["name"] == "solved_share")
    assert share["high"] - share["low"] > 0.4  # a single row says next to nothing


def test_servers_cost_tokens_and_money_but_no_gpu(problems: str):
    """Worked by hand: 30 problems x 4 samples x (1 + sqrt(1/4)) rounds = 180 traces."""
    prices = ["generate.endpoint.prompt_price=1", "generate.endpoint.completion_price=2"]
    plan = planned(SERVED, problems, *prices, "--assume", "solved_share=0.75", "--assume", "correct_share=0.5")
    generate, judge = stage_of(plan, "generate"), stage_of(plan, "judge")
    assert generate["sequences"] == pytest.approx(180)
    assert generate["gpu_hours"] is judge["gpu_hours"] is None
    prompts = 180 * next(each["value"] for each in plan["assumptions"] if each["name"] == "prompt_tokens")
    assert generate["price"] == pytest.approx((prompts + 2 * generate["tokens"]) / 1e6, abs=2e-5)
    assert judge["sequences"] == pytest.approx(90)  # those that Math-Verify does not call correct
    assert "an endpoint" in RUNNER.invoke(app, ["plan", SERVED, problems]).stdout


def test_a_teacher_of_ones_own_costs_gpu_hours_and_must_fit(problems: str):
    """A model of 72 billion parameters has 145 GB of weights: two A100 are too few, four will do."""
    gpu = ["resources.engine.device=gpu", "evaluate.benchmarks=[]"]
    teacher = "generate={kind: vllm, model: Qwen/Qwen2.5-72B, max_tokens: 8192}"
    plan = planned(SERVED, problems, *gpu, teacher, "verify={}")
    assert "DOES NOT FIT on 1 A100-80GB a replica; counted with 4" in stage_of(plan, "generate")["note"]
    small = planned(SERVED, problems, *gpu, teacher.replace("72B", "1.5B"), "verify={}")
    assert 0 < stage_of(small, "generate")["gpu_hours"] < 0.1 * stage_of(plan, "generate")["gpu_hours"]


def test_arms_share_references_and_pay_for_scoring():
    plan = planned(PAPER, "redi.arms.ipo={objective: {name: ipo}}")
    names = [stage["name"] for stage in plan["stages"]]
    assert names.count("references") == 1
    assert "dpo, ipo" in stage_of(plan, "references")["note"]
    redi, alpha0, dpo, references = (stage_of(plan, name)["flops"] for name in ("redi", "alpha0", "dpo", "references"))
    assert redi == alpha0
    assert dpo == pytest.approx(redi + references)  # scores before coefficients: one forward pass more
    assert "references" not in [stage["name"] for stage in planned(PAPER, "redi.arms={}")["stages"]]


def test_settings_change_what_they_should():
    plain = planned(PAPER)
    full = planned(PAPER, "sft.train.gradient_checkpointing=false")
    assert stage_of(full, "sft")["gpu_hours"] < stage_of(plain, "sft")["gpu_hours"]
    memory = {each["name"]: each for each in full["memory"]}
    assert not memory["sft"]["fits"]
    assert 0 < memory["sft"]["budget"] < memory["redi"]["budget"]
    lora = planned(PAPER, "model.overrides.lora={rank: 16}")
    sizes = [next(each["memory"]["optimizer"] for each in plan["memory"]) for plan in (lora, plain)]
    assert sizes[0] < 0.05 * sizes[1]
    assert lora["storage_bytes"]["checkpoints/sft"] < 0.3 * plain["storage_bytes"]["checkpoints/sft"]
    wide = planned(PAPER, "sft.train.export_dtype=float32")
    sft, exact, arm = (
        p["storage_bytes"][f"checkpoints/{n}"] for p, n in ((plain, "sft"), (wide, "sft"), (plain, "redi"))
    )
    assert sft - exact == pytest.approx((sft - arm) / 2, rel=1e-6), (
        "bfloat16, beside the float32 that the arms start from"
    )
    capped = planned(PAPER, "sft.train.max_steps=10")
    assert stage_of(capped, "sft")["sequences"] == 1280
    faster = planned(PAPER, "--gpu", "h100")
    assert stage_of(faster, "sft")["gpu_hours"] == pytest.approx(stage_of(plain, "sft")["gpu_hours"] * 312 / 989)


def test_a_range_of_ranks_takes_the_hours_of_the_most_and_the_memory_of_the_fewest():
    most, fewest, both = (planned(PAPER, f"resources.trainer.num_workers={n}") for n in ("8", "4", "[4, 8]"))
    for name in ("sft", "redi"):
        told, expected = stage_of(both, name), stage_of(most, name)
        assert (told["gpus"], told["gpu_hours"]) == (expected["gpus"], expected["gpu_hours"])
        assert "4 to 8 ranks: hours with 8, memory with 4" in told["note"]
    assert both["memory"] == fewest["memory"] != most["memory"]


def test_a_model_that_too_few_ranks_hold_gets_advice():
    """72 billion parameters: 16 bytes each are 145 GB on each of 8 ranks."""
    big = ["model.init.path=Qwen/Qwen2.5-72B", "redi.arms={}", "evaluate.benchmarks=[]"]
    short = ["curate.max_response_tokens=7000", "sft.train.max_length=8192", "sft.train.tokens_per_pack=8192"]
    assert "keep_gathered: false would spare" in RUNNER.invoke(app, ["plan", PAPER, *big, *short]).stdout
    big.append("sft.train.keep_gathered=false")
    needed = planned(PAPER, *big, *short)["memory"][0]["ranks_needed"]
    enough = planned(PAPER, *big, *short, f"resources.trainer.num_workers={needed}")["memory"][0]
    fewer = planned(PAPER, *big, *short, f"resources.trainer.num_workers={needed // 2}")["memory"][0]
    assert enough["fits"]
    assert not fewer["fits"]
    shown = RUNNER.invoke(app, ["plan", PAPER, *big, *short]).stdout
    assert f"sft: DOES NOT FIT; {needed} ranks would hold packs of 8,192" in shown
    shown = RUNNER.invoke(app, ["plan", PAPER, *big, "sft.train.gradient_checkpointing=false"]).stdout
    assert (
        "gradient_checkpointing would spare most of the activations; no number of A100-80GB holds packs of 32,768"
        in shown
    )


def test_the_dominating_assumption_is_the_one_that_moves_the_total_most():
    plan = planned(PAPER)
    widths = {each["name"]: abs(each["at_high"] - each["at_low"]) for each in plan["sensitivity"]}
    assert plan["dominant"] == max(widths, key=widths.__getitem__) == "utilization"
    settled = planned(PAPER, "--assume", "utilization=0.3")
    assert "utilization" not in [each["name"] for each in settled["sensitivity"]]
    ends = next(each for each in plan["sensitivity"] if each["name"] == "rejected_ratio")
    assert planned(PAPER, "--assume", "rejected_ratio=2")["total"]["gpu_hours"] == pytest.approx(ends["at_high"])
    used = {each["name"] for each in plan["assumptions"]}
    assert all(set(stage["assumptions"]) <= used for stage in plan["stages"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([PAPER, "--gpu", "V100"], "there are A10, A100-40GB, A100-80GB, B200, H100"),
        ([PAPER, "--assume", "mfu=0.3"], "write NAME=NUMBER"),
        ([PAPER, "--assume", "utilization=1.5"], "shares up to 1"),
        ([PAPER, "model.init.path=nobody/nothing"], f"--shape nobody/nothing:{EXAMPLE}"),
        ([PAPER, HUB, "verify.votes=[math_verify]"], "--assume problems=NUMBER"),
        ([SERVED, "problems.source.paths=[/no/such.jsonl]"], "/no/such.jsonl is not there"),
    ],
)
def test_what_is_not_known_is_asked_for(arguments: list[str], told: str):
    result = RUNNER.invoke(app, ["plan", *arguments])
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_hub_data_set_is_planned_once_its_size_is_said():
    plan = planned(
        PAPER, HUB, "verify.votes=[math_verify]", "--assume", "problems=1000", "--assume", "solved_share=0.5"
    )
    assert stage_of(plan, "sft")["sequences"] == 5 * 500


def test_gpu_hours_have_a_price_where_the_config_knows_one():
    """Beside what an endpoint costs; the whole is on the terminal and in the JSON."""
    without, plan = planned(PAPER), planned(PAPER, "resources.gpu_hour_price=2.5")
    assert without["total"]["price"] is None
    assert plan["total"]["price"] == pytest.approx(2.5 * plan["total"]["gpu_hours"])
    assert stage_of(plan, "sft")["price"] == pytest.approx(2.5 * stage_of(plan, "sft")["gpu_hours"])
    told = RUNNER.invoke(app, ["plan", PAPER, "resources.gpu_hour_price=2.5"]).output
    assert f"price: {plan['total']['price']:,.2f}" in told
