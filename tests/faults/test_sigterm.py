"""SIGTERM, as a cluster sends it before it takes a machine away: saved, an exit code of its own, and on to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from imported_run import write_imported
from processes import run, start
from recovery import recovering

from redi_ray.cluster.preemption import end_main_thread, ends_on_sigterm, saving_first
from redi_ray.errors import EXIT_FAILED, EXIT_PREEMPTED, Preempted
from redi_ray.store import manifests, storage


def ended_by_sigterm(training: bool) -> None:
    """SIGTERM to this very process, twice if a training is at work."""
    with ends_on_sigterm():
        if training:
            with saving_first() as asked:
                signal.raise_signal(signal.SIGTERM)
                assert asked.is_set()
                signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_at_work_decides(training: bool):
    """Nothing: ended at once. A training: asked to save; a second SIGTERM does not wait."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted):
        ended_by_sigterm(training)
    assert signal.getsignal(signal.SIGTERM) is before


def ended_by_thread() -> None:
    with ends_on_sigterm(), saving_first():
        threading.Thread(target=end_main_thread, args=(ZeroDivisionError(),)).start()
        time.sleep(10)


def test_a_thread_that_finds_out_ends_the_main_thread_at_once():
    """Also in a training: a driver that lost its run must not save into it."""
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        ended_by_thread()
    assert time.monotonic() - started < 5


WORK = """
import sys, time
from redi_ray.cli.entry import writing
from redi_ray.cluster.exits import clear_errors
with clear_errors(), writing(sys.argv[1]):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("lost", [False, True])
def test_exit_codes_of_a_driver_that_is_ended_and_of_one_that_lost_its_run(tmp_path: Path, lost: bool):
    program = (
        "import redi_ray.store.lock as lock; lock.HEARTBEAT_SECONDS = 0.2; lock.RunLock.__init__.__kwdefaults__.update("
    )
    program += "heartbeat=0.2)\n" + WORK
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    if lost:
        (tmp_path / storage.LOCK).write_text("{}")
    else:
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (EXIT_FAILED if lost else EXIT_PREEMPTED), told
    assert ("was taken over" if lost else "stopped: ended by SIGTERM") in told
    assert "Traceback" not in told
    assert (tmp_path / storage.LOCK).exists() == lost


def end_when(process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 300) -> str:
    """SIGTERM to the driver alone once `condition` holds; its output. Fails unless it leaves with its exit code."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before:\n{process.communicate()[0][-4000:]}"
        assert time.monotonic() < deadline, "the moment to end it never came"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == EXIT_PREEMPTED, f"exit {process.returncode}:\n{output[-6000:]}"
    return output


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ended_in_verify_and_train_it_goes_on_to_the_same_weights(tmp_path: Path):
    config = str(write_imported(tmp_path))
    calm, torn = f"storage.root={tmp_path / 'calm'}", f"storage.root={tmp_path / 'torn'}"
    long = "sft.train.epochs=20"
    run("train", config, calm, long)
    folder = tmp_path / "torn" / "imported"
    end_when(start("train", config, torn, long), lambda: any(folder.glob("verified/*/verified/*/*.parquet")))
    assert not (folder / storage.LOCK).exists()

    seals = "checkpoints/sft/*/checkpoints/*/files.json"
    output = end_when(start("train", config, torn, long), lambda: any(folder.glob(seals)))
    assert "sft is saved" in output or "train sft is saved" in output
    assert not any(folder.glob("checkpoints/sft/*/export/manifest.json"))
    newest = json.loads(max(folder.glob(seals)).read_text())["step"]
    undisturbed = tmp_path / "calm" / "imported"
    total = manifests.current_manifest(str(undisturbed), "checkpoints/sft").facts["total_steps"]
    assert 0 < newest < total

    with recovering(f"SIGTERM at step {newest} of {total}"):
        run("train", config, torn, long)
    for arm in ("sft", "redi"):
        exports = [
            Path(manifests.current_manifest(str(root), f"checkpoints/{arm}").facts["export"]) / "model.safetensors"
            for root in (undisturbed, folder)
        ]
        assert exports[0].read_bytes() == exports[1].read_bytes(), arm
        steps = [json.loads(line)["step"] for line in (exports[1].parent.parent / "metrics.jsonl").open()]
        assert steps == list(range(len(steps)))
