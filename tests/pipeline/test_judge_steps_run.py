"""A judge of steps for real, in a small world: trained on stated verdicts, its words weighed by vLLM behind analyses of its own;
killed in both and made again. And a judge that writes its labels down, run by vLLM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from located_samples import R, U, W, labels_in, located, samples, work_of
from processes import kill_when, rows, start
from small_world import small_world
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from redi_ray.config.load import load_config
from redi_ray.config.locators import StepJudge
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import Architecture
from redi_ray.data.columns import beside
from redi_ray.data.locate.exact import labels_of
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import load_tokenizer, train_bpe_tokenizer
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import current_manifest
from redi_ray.text.prompts import to_messages
from redi_ray.text.step_judgement import steps_prompt
from redi_ray.text.step_verdicts import probability_of_yes, step_question
from redi_ray.text.steps import split_steps
from redi_ray.text.tokens import completion_ids, encode, prompt_ids

QUESTION = {"prompt": "{problem}=\n{before}\n={step}", "question": "==", "yes": "1", "no": "0", "numbered": False}
STATED = "<think>\n</think>\n=="
JUDGE = {"kind": "step_judge", "question": QUESTION}
BARE = {**JUDGE, "analyses": 0, "opening": STATED}
LOCATE = {"do": "locate", "of": "verified", "ask": "all"}
STEPS = {
    "exact": {**LOCATE, "locator": {"kind": "exact"}},
    "asked": {"do": "ask", "of": "verified", "at": "exact", "question": QUESTION, "part": {"up_to": 0.7}},
    "stated": {"do": "state", "problems": "asked", "text": STATED + "{answer}"},
    "stated_well": {"do": "verify", "of": "stated", "answers": {"extract": ["verdict:==|1|0"]}},
    "balanced": {"do": "select", "of": "stated_well", "balance": {}},
    "judge": {"do": "train", "from": "base", "on": "balanced", "objective": {"name": "sft"},
              "train": {"learning_rate": 2e-3, "max_steps": 60, "epochs": 30}},
    "said": {"do": "sample", "problems": "asked", "model": "judge", "samples_per_round": 4, "max_tokens": 12},
    "said_well": {"do": "verify", "of": "said", "answers": {"extract": ["verdict:==|1|0"]}},
    "judged": {**LOCATE, "model": "judge", "locator": {**JUDGE, "analyses": 2, "temperature": 1.0, "max_tokens": 12}},
    "bare": {**LOCATE, "model": "judge", "locator": BARE},
    "how_well": {"do": "compare", "of": "verified", "column": "judged", "to": "exact", "part": {"above": 0.7}},
}  # fmt: skip
GUIDED = {"model": "judge", "judge": BARE, "keep": 2, "candidates": 2, "step_end": "\n", "max_steps": 6, "max_step_tokens": 12,
          "form": "equations"}  # fmt: skip
CONFIG = small_world("judges", STEPS, concurrent_steps=1) | {
    "evaluate": {
        "models": ["base"],
        "num_samples": 2,
        "ks": [1],
        "temperature": 1.0,
        "max_tokens": 40,
        "guided": GUIDED,
    }
}
GOALS = ("bare", "how_well", "said_well", "eval/base")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "judges.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's folder."""
    root = tmp_path_factory.mktemp("calm")
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make(GOALS)
    return root / "judges"


def spans_of(run: Path, step: str) -> dict[str, list[dict[str, Any]]]:
    return {row["trace_id"]: row["spans"] for row in rows(run, f"steps/{step}/column", "column")}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_what_a_judge_says(calm: Path):
    """Its numbers are those that transformers computes behind the same tokens; its training data agree with the labels, as many
    of each; what its analyses leave out is counted."""
    questions = {row["problem_id"]: row for row in rows(calm, "steps/asked/problems", "problems")}
    examples = rows(calm, "steps/judge-pairs/curated", "examples")
    answers = [row["messages"][-1]["content"].removeprefix(STATED) for row in examples]
    assert sorted(set(answers)) == ["0", "1"]
    assert answers.count("0") == answers.count("1") > 0
    assert all(questions[row["problem_id"]]["answer"] == said for row, said in zip(examples, answers, strict=True))
    for row in questions.values():
        problem, before, step = row["problem"].split("=\n", 1)[0], *row["problem"].split("=\n", 1)[1].rsplit("\n=", 1)
        steps = [*[line + "\n" for line in before.split("\n") if line], step]
        assert (labels_of(problem, steps)[-1] == R) == (row["answer"] == "1")

    export = current_manifest(str(calm), "checkpoints/judge").facts["export"]
    tokenizer, model, prompt = (
        load_tokenizer(export, False),
        AutoModelForCausalLM.from_pretrained(export),
        PromptSettings(),
    )
    question = load_config_question()
    verified, bare, checked = current_manifest(str(calm), "verified"), spans_of(calm, "bare"), 0
    for shard in verified.files("verified")[:1]:
        for batch, _ in beside(shard, [], ["problem", "completion"]):
            for row in batch.to_pylist()[:12]:
                texts = [row["completion"][a:b] for a, b in split_steps(row["completion"])]
                for at, span in enumerate(bare[row["trace_id"]]):
                    asked = step_question(question, row["problem"], texts, at, tokenizer.all_special_tokens)
                    ids = prompt_ids(to_messages(asked, prompt), tokenizer, prompt)
                    ids = [*ids, *completion_ids(STATED, tokenizer, prompt, finished=False)]
                    with torch.no_grad():
                        logits = model(torch.tensor([ids])).logits[0, -1]
                    words = {word: float(logits[tokenizer.convert_tokens_to_ids(word)]) for word in ("1", "0")}
                    assert span["value"] == pytest.approx(probability_of_yes(words, question), abs=1e-4)
                    checked += 1
    assert checked > 20

    told = current_manifest(str(calm), "steps/judged/column")
    said = told.facts["step_judge"]
    assert said["weighed"] + said.get("no_verdict_question", 0) == said["analyses"] == 2 * said["steps"]
    assert said["weighed"] > 0.5 * said["analyses"], "it has learnt to come to the question, more often than not"
    assert told.facts["steps"] <= said["steps"]
    scores = current_manifest(str(calm), "steps/how_well/comparison").facts
    assert 0 <= scores["auc"] <= 1
    assert scores["baselines"].keys() == {"chance", "lengths", "places"}
    agreeing = {(row["answer"], row["completion"][-1]) for row in rows(calm, "steps/said_well/verified", "verified")
                if row["verdict"] == "correct"}  # fmt: skip
    assert agreeing <= {("0", "0"), ("1", "1")}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_judge_guides_a_search(calm: Path):
    """It is asked about each step once, about the steps that were drawn last; the words it weighs make the answers' numbers."""
    folder = Path(current_manifest(str(calm), "eval/base").uri, "guided")
    steps = sorted(folder.glob("step-*"))
    assert len(steps) > 2
    for step in steps:
        judged = {
            row["trace_id"]: row["spans"]
            for table in parquet.read_tables(storage.list_files(str(step / "scored/column"), ".parquet"))
            for row in table.to_pylist()
        }
        candidates = pa.concat_tables(parquet.read_tables(storage.list_files(str(step / "candidates"), ".parquet")))
        asked = pa.concat_tables(parquet.read_tables(storage.list_files(str(step / "scored/steps"), ".parquet")))
        assert list(judged) == candidates["trace_id"].to_pylist()
        assert asked.num_rows == candidates.num_rows
        for spans in judged.values():
            assert 0 <= spans[-1]["value"] <= 1
            assert all(span["value"] is None for span in spans[:-1])
    told = json.loads((folder.parent / "report.json").read_text())["benchmarks"][0]["guided"]
    assert told["guide"] == "judge"
    assert told["best_against_best"] is None


def load_config_question() -> Any:
    from redi_ray.config.step_judges import StepQuestion

    return StepQuestion(**QUESTION)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_while_it_judges(calm: Path, config: Path, tmp_path: Path):
    """While it analyses, and while its words are weighed: the same labels, nothing asked twice."""
    torn = tmp_path / "judges"
    shutil.copytree(calm, torn)
    shutil.rmtree(torn / "steps/judged")

    def is_there(pattern: str) -> Callable[[], bool]:
        return lambda: any(torn.glob(f"steps/judged/column/*/{pattern}"))

    run = ("run", str(config), f"storage.root={tmp_path}", "--until", "judged")
    for pattern, done in (
        ("analyses/part-*.parquet", "verdicts.json"),
        ("verdicts/asked/**/part-*.parquet", "verdicts.json"),
    ):
        kill_when(start(*run), is_there(pattern))
        assert not is_there(done)(), f"{pattern}: killed behind its end"
    kept = {path: path.stat().st_mtime_ns for path in torn.glob("steps/judged/column/*/analyses/part-*.parquet")}
    Pipeline(load_config(str(config), [f"storage.root={tmp_path}"])).make(["judged"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    before, after = spans_of(calm, "judged"), spans_of(torn, "judged")
    assert list(before) == list(after)
    for key, spans in before.items():
        assert (spans is None) == (after[key] is None)
        for one, other in zip(spans or [], after[key] or [], strict=True):
            assert {**one, "value": None} == {**other, "value": None}
            assert one["value"] == pytest.approx(other["value"], abs=1e-5)


TEXTS = [("3+4*2", f"<think>\n3+4=7\n7*2={wrong}\n</think>\n\\boxed{{{wrong}}}") for wrong in (5, 6, 7, 8)]
SAID = [
    "Step 1: correct\nStep 2: incorrect",
    "Step 1: incorrect",
    "Hm.\nStep 1: correct\nStep 2: neutral",
    "It is wrong.",
]


def train_judge(folder: Path, judge: StepJudge, rows: list[dict[str, Any]]) -> str:
    """A model that says of each of these samples what it should, by heart."""
    prompts = [
        steps_prompt(judge, problem=row["problem"], answer=row["answer"], steps=[
            row["completion"][a:b] for a, b in split_steps(row["completion"])]) for row in rows
    ]  # fmt: skip
    tokenizer, settings = train_bpe_tokenizer([*prompts, *SAID] * 5, 400), PromptSettings(prefix="")
    save_scratch_model(Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2), tokenizer, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    encoded = [
        encode(to_messages(prompt, settings), said, tokenizer, settings)
        for prompt, said in zip(prompts, SAID, strict=True)
    ]
    ids = pad_sequence([torch.tensor(one.input_ids) for one in encoded], True, tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for row, one in enumerate(encoded):
        labels[row, one.prompt_length : len(one.input_ids)] = ids[row, one.prompt_length : len(one.input_ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, f"it has not learnt its lines: loss {loss.item():.3f}"
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_judge_that_writes_labels_down_run_by_vllm(ray_session: None, tmp_path: Path):
    found = samples(tmp_path, TEXTS, shards=1)
    locator = {"kind": "judge", "prompt": "{problem} {answer} {steps}", "max_tokens": 40,
               "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 400}}  # fmt: skip
    judge = StepJudge(kind="judge", prompt=locator["prompt"])
    model = train_judge(tmp_path / "model", judge, found)
    counts, told = located(work_of(tmp_path, {**locator, "model": model}))
    assert labels_in(tmp_path) == [[R, W, U], [W, U, U], [R, "neutral", U], None]
    assert counts["failed/unparseable"] == 1
    assert (told["judge"]["model"], told["judge"]["asked"]) == (model, 4)
