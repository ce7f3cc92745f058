"""An engine in its own process: weights that are not the ones they should be are noticed, and a core that dies is replaced.

The core runs in another process here, as on a GPU; on CPU the stage has it in the engine's own (see `environment`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_engines import model_like

from redi_ray.config.resources import EngineSettings
from redi_ray.config.student import Architecture
from redi_ray.data.sample.engine_start import small_files
from redi_ray.data.sample.engines import environment
from redi_ray.data.sample.parity import Parity
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer

SCRIPT = """
import json, signal, sys
from concurrent.futures import ThreadPoolExecutor
import psutil, pyarrow as pa
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engine import Engine, EngineDied
from redi_ray.data.sample.engine_block import Block
from redi_ray.data.sample.parity import parity
from redi_ray.data.sample.samples import REQUEST, Sampling


def cores():
    alive = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "EngineCor" in " ".join(p.cmdline())]


def main(first, second):
    first, second = sys.argv[1:]
    settings, prompts = EngineSettings(device="cpu", dtype="float32", max_model_len=2048), [[5, 6, 7], [8, 9]]
    rows = [{"problem_id": f"p{n}", "problem": f"{n}+1", "answer": "1", "source": "t", "sample_index": 0} for n in range(4)]
    requests, told = pa.Table.from_pylist(rows, schema=REQUEST), {}
    engine = Engine()

    def texts(tokens, some=requests):
        return engine.submit(some, Sampling(1.0, 1.0, tokens, 0), PromptSettings()).result(120)["completion"].to_pylist()

    engine.use(first, settings).result()
    before = texts(16)
    told["alone"] = [text for at in range(4) for text in texts(16, requests.slice(at, 1))] == before
    told["fresh"] = parity(engine.llm, first, None, prompts).holds("float32")
    engine.llm.collective_rpc("reload_weights", kwargs={"weights_path": second})
    told["reloaded on cpu"] = parity(engine.llm, second, first, prompts).holds("float32")
    engine.held = None  # what is in it now is nobody's
    engine.use(first, settings).result()
    told["again"] = texts(16) == before
    long = engine.submit(requests, Sampling(1.0, 1.0, 2000, 0), PromptSettings())
    told["cores"] = len(cores())
    cores()[0].send_signal(signal.SIGKILL)
    try:
        long.result(120)
    except EngineDied as error:
        told["died"] = str(error)
    try:
        texts(16)
    except EngineDied:
        told["refused until used"] = True
    engine.use(first, settings).result()
    taken_up, Block.answer = Block.answer, lambda *told: 1 / 0
    try:
        texts(16)
    except ZeroDivisionError:
        told["a fault of ours"] = True
    Block.answer = taken_up
    told["after"] = texts(16) == before
    engine.abort().result()
    engine.close().result()
    told["left"] = len(cores())
    print(json.dumps(told))

if __name__ == "__main__":  # the core's process imports this file
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two that differ in their weights alone."""
    folder = tmp_path_factory.mktemp("models")
    size = Architecture(hidden_size=64, num_layers=1, num_heads=2, num_kv_heads=1, max_position_embeddings=2048)
    save_scratch_model(size, character_tokenizer("0123456789+-*= \n"), folder / "first")
    model_like(str(folder / "first"), str(folder / "second"))
    return str(folder / "first"), str(folder / "second")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_wrong_weights_are_noticed_and_a_dead_core_is_replaced(models: tuple[str, str], tmp_path: Path):
    told = environment(EngineSettings(device="cpu")) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), *models], capture_output=True, text=True, env={**os.environ, **told}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("died").startswith("vLLM failed: ")
    assert found.pop("alone"), "a sample does not depend on what shares its steps"
    assert found == {"fresh": True, "reloaded on cpu": False, "again": True, "cores": 1, "refused until used": True,
                     "a fault of ours": True, "after": True, "left": 0}  # fmt: skip


def test_the_check_tells_the_new_weights_from_the_old():
    assert Parity(0.0, 1e-5, None).holds("float32")
    assert Parity(0.0, 1e-5, 0.3).holds("float32")
    assert not Parity(0.0, 0.01, None).holds("float32"), "log-probs that far off are another model's"
    assert Parity(0.2, 0.05, 0.3).holds("bfloat16"), "whose logits are rounded"
    assert not Parity(0.2, 0.05, 0.01).holds("bfloat16"), "nearer to the weights before"
    assert not Parity(0.7, 0.05, 0.3).holds("bfloat16"), "another token is the likeliest"


def test_weights_are_reloaded_only_where_nothing_else_differs(models: tuple[str, str], tmp_path: Path):
    """A model's samples are read by its own tokenizer, and its architecture is the engine's."""
    assert small_files(models[0]) == small_files(models[1]) != {}
    size = Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, max_position_embeddings=2048)
    save_scratch_model(size, character_tokenizer("0123456789+-*= \n"), tmp_path / "deeper")
    save_scratch_model(size, character_tokenizer("0123456789+-*= \nab"), tmp_path / "reader")
    files = [small_files(str(tmp_path / name)) for name in ("deeper", "reader")]
    assert files[0] != small_files(models[0])
    assert files[0] != files[1]
