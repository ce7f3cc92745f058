"""A run's folder as the pipeline leaves it, with one small model that knows its lines: what chat, serve and push are tried on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
from tiny_talker import COLOURS, problem, train_talker

from redi_ray.config.load import dump_config, parse_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes
from redi_ray.text.recorded import record_problems

PROMPT = {"template": "solve {problem}", "prefix": "<think>\n"}
"""Without both of it the model says nothing of sense."""


def talker_run(folder: Path) -> str:
    """A run `talk` with a finished `base`, whose problems name colours, and an `sft` that is not finished -> its folder."""
    config = parse_config(
        {
            "name": "talk",
            "storage": {"root": str(folder)},
            "problems": {"source": {"kind": "files", "paths": [str(folder / "problems.jsonl")], "columns": {}}},
            "generate": {"kind": "vllm", "model": "base"},
            "model": {"init": {"kind": "pretrained", "path": str(folder / "talker")}, "prompt": PROMPT},
            "redi": {"arms": {}},
            "evaluate": {"benchmarks": [], "max_tokens": 40, "temperature": 0.0},
            "resources": {"engine": {"device": "cpu", "dtype": "float32", "max_model_len": 256}},
        }
    )
    run = config.run_uri
    write_bytes(join(run, "config.yaml"), dump_config(config).encode())
    problems = Stage(run, "problems", {}, {})
    rows = [
        {"problem_id": f"p{n}", "problem": problem(COLOURS[n % 2], n), "answer": "RED", "source": "colours"}
        for n in range(4)
    ]  # of which those that ask for BLUE are answered wrongly
    write_table(join(problems.uri, "problems", "part-00000.parquet"), pa.Table.from_pylist(rows, schema=PROBLEM))
    problems.publish(counts={"in": 4, "out": 4}, seconds=0.1)
    base = Stage(run, "checkpoints/base", {"model": "talker"}, {})
    export = join(base.uri, "export")
    (folder / "talker").mkdir()
    shutil.copytree(train_talker(folder / "talker"), export)
    recorded = record_problems(
        [row["problem"] for row in rows], load_tokenizer(export, False), PromptSettings(**PROMPT)
    )
    base.publish(facts={"export": export, "prompt": recorded, "steps": 150, "status": "done"}, seconds=1.0)
    return run
