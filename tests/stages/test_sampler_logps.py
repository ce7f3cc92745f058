"""What vLLM says of the tokens that it samples, and what our own pass says of the same tokens, agree; another model does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from curation_runs import trace
from test_token_scoring import PROMPT, tiny

from redi_ray.config.resources import EngineSettings
from redi_ray.config.token_steps import LogpsSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.sample.engines import environment
from redi_ray.stages.token_scoring import TokenScoring, TokenScoringShard

TOLERANCE = 1e-4
"""Nats for each token, float32 on both sides; seen: 2e-6."""
SCRIPT = """
import json, sys
from vllm import SamplingParams
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine_start import start_vllm
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

if __name__ == "__main__":
    model, prefix = sys.argv[1:]
    prompt = PromptSettings(prefix=prefix)
    llm = start_vllm(model, EngineSettings(device="cpu", dtype="float32", max_model_len=128))
    ids = prompt_ids(to_messages("1+1", prompt), load_tokenizer(model), prompt)
    ends = sorted(end_of_turn_ids(model))
    asked = [
        SamplingParams(temperature=1.0, max_tokens=24, seed=n, logprobs=0, stop_token_ids=ends, skip_special_tokens=False)
        for n in range(48)
    ]
    outputs = llm.generate([{"prompt_token_ids": ids}] * len(asked), asked, use_tqdm=False)
    told = []
    for output in outputs:
        said = output.outputs[0]
        logps = [steps[token].logprob for token, steps in zip(said.token_ids, said.logprobs, strict=True)]
        ended = said.token_ids[-1] in ends
        told.append({"prompt": ids, "text": said.text, "ids": list(said.token_ids), "logps": logps, "ended": ended})
    print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllms_log_probs_are_those_of_the_scoring_step(tmp_path: Path):
    """Of the prefix, which was not sampled, only the scoring step has log-probs. A sample whose text is read as other tokens than
    were drawn has no comparison."""
    model, other = (tiny(tmp_path / name, seed, hidden=64) for seed, name in enumerate(("model", "other")))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    told = {**os.environ, **environment(EngineSettings(device="cpu"))}
    command = [sys.executable, str(script), model, PROMPT.prefix]
    done = subprocess.run(command, capture_output=True, text=True, env=told, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    sampled = json.loads(done.stdout.splitlines()[-1])
    rows = [
        trace(
            "p",
            n,
            "wrong",
            PROMPT.prefix + one["text"],
            problem="1+1",
            finish_reason="stop" if one["ended"] else "length",
        )
        for n, one in enumerate(sampled)
    ]

    def differences(scored_by: str) -> list[float]:
        shard = TokenScoringShard(
            TokenScoring(
                "logps", "", "", {"model": scored_by}, model, LogpsSettings(), PROMPT, ModelOverrides(), TrainSettings()
            )
        )
        found = []  # a text may be read as other tokens than were drawn, and so may what it begins with
        for one, encoded in zip(
            sampled, (shard.encoder.encode(row, shard.encoder.turns(row)) for row in rows), strict=True
        ):
            if isinstance(encoded, str) or encoded.input_ids != one["prompt"] + one["ids"]:
                continue
            (scores,) = shard.score([encoded])
            found.append(float(np.abs(scores[-len(one["ids"]) :] - one["logps"]).max()))
        return found

    assert len(differences(model)) >= 6
    assert max(differences(model)) < TOLERANCE
    assert max(differences(other)) > 100 * TOLERANCE
