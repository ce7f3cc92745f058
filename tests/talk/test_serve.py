"""An OpenAI client talks to a served model of a run, which is asked as it was trained; ctrl-C ends all of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from openai import APIStatusError, OpenAI
from processes import run as command
from processes import start, wait_until
from tiny_talker import SOLVED

from redi_ray.talk.models import find_speakers
from redi_ray.talk.ray_server import missing
from redi_ray.talk.serving import ServeOptions, describe, example, require_vllm
from redi_ray.talk.vllm_server import as_flags

COLOUR = [{"role": "user", "content": "case 0: RED"}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_the_server_is_told(talk_run: str):
    """Numbers of the config, on a device that is here; what the command line says wins."""
    (model,) = find_speakers(talk_run, ["base"])
    served = describe(model, ServeOptions(device="cpu", dtype="bfloat16", max_model_len=99))
    flags = as_flags(served.arguments)
    assert {"--enforce-eager", "--no-enable-chunked-prefill", "bfloat16", "99"} <= set(flags)
    assert "--scheduler-cls" not in flags
    on_gpus = describe(model, ServeOptions(device="gpu")).arguments
    assert (on_gpus["gpu_memory_utilization"], on_gpus["max_model_len"], on_gpus["dtype"]) == (0.9, 256, "float32")
    assert "case 0: RED" in example(served, ServeOptions())
    assert ServeOptions(host="0.0.0.0").url == "http://127.0.0.1:8000"
    assert [ServeOptions(host=host).is_local for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.0.0.1")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_what_cannot_be_served_is_told_before_anything_starts(talk_run: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = command("serve", talk_run, "--model", "base", "--port", port, expect=2)
    assert f"127.0.0.1:{port} cannot be listened on" in told
    assert "--port" in told


@contextmanager
def serving(run: str, *more: str) -> Iterator[tuple[OpenAI, subprocess.Popen[str]]]:
    """The command, once it says that it is ready, and a client."""
    port = free_port()
    process = start("serve", run, "--model", "base", "--port", str(port), *more)
    try:
        lines = []
        while not (lines and lines[-1].startswith("ready: ")):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none"), process
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
            probe.connect(("127.0.0.1", port))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def ask(client: OpenAI, name: str) -> None:
    """It answers as it was taught, which it does to training's prompts alone."""
    assert [model.id for model in client.models.list().data] == [name]
    told = client.chat.completions.create(model=name, messages=COLOUR, temperature=0)
    assert "<think>\n" + told.choices[0].message.content == SOLVED.format(colour="RED")
    assert told.choices[0].finish_reason == "stop"
    pieces = client.chat.completions.create(model=name, messages=COLOUR, temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == told.choices[0].message.content
    with pytest.raises(APIStatusError):
        client.chat.completions.create(model="other", messages=COLOUR)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_client_of_openai_talks_to_vllm(talk_run: str):
    require_vllm()
    with serving(talk_run, "--name", "tiny") as (client, process):
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
        ask(client, "tiny")
    for child in map(int, children.split()):
        wait_until(lambda pid=child: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(missing()), reason=f"Ray Serve lacks {missing()}")
def test_a_client_of_openai_talks_to_ray_serve(talk_run: str):
    with serving(talk_run, "--with", "ray") as (client, _):
        ask(client, "base")
