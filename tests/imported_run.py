"""A small experiment on made-up traces: no teacher, a model of random weights, two training workers."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def write_imported(folder: Path, num_problems: int = 300) -> Path:
    """Its config. Traces whose answers need Math-Verify, one in three wrong: 4 of each problem, one trace a row."""
    path = folder / "traces.jsonl"
    with path.open("w") as file:
        for problem in range(num_problems):
            for sample in range(4):
                value = f"\\frac{{{problem + 1}}}{{{7 + (problem + sample) % 3}}}"
                file.write(
                    json.dumps(
                        {
                            "problem_id": f"p{problem}",
                            "problem": f"What is {problem + 1} / 7 ?",
                            "answer": f"{2 * problem + 2}/14",
                            "completion": f"<think>\n{sample} it is</think> \\boxed{{{value}}}",
                        }
                    )
                    + "\n"
                )
    source = {"kind": "files", "paths": [str(path)], "columns": {"completion": "completion"}}
    probe = {"every": 10, "problems": 16, "max_tokens": 16, "temperature": 1.0}
    config = {
        "name": "imported",
        "problems": {"source": source, "dev": {"share": 0.1}},
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch", "vocab_size": 400, "architecture": {"hidden_size": 32, "num_heads": 2}}},
        "sft": {"train": {"batch_size": 16, "epochs": 3, "learning_rate": 1e-3, "checkpoint_every": 5}},
        "redi": {
            "train": {"batch_size": 16, "epochs": 3, "learning_rate": 1e-4, "checkpoint_every": 5, "probe": probe}
        },
        "evaluate": {"benchmarks": []},
        "resources": {"engine": {"device": "cpu"}, "trainer": {"num_workers": 2}},
    }
    (folder / "imported.yaml").write_text(yaml.safe_dump(config))
    return folder / "imported.yaml"
