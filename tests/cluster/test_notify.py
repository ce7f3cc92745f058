"""People hear how a run has ended, and no way of telling them can hurt the run or leak an address."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cluster.notify import duration, notify, told_to_others
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.errors import Preempted, UserError


def config(**settings: Any) -> ExperimentConfig:
    return parse_config({"name": "demo", "notify": settings})


class Hook:
    """A webhook on this machine."""

    def __init__(self, status: int = 200, delay: float = 0.0) -> None:
        self.seen: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                time.sleep(delay)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_a_command_gets_the_event_on_its_input_and_in_its_environment(tmp_path: Path):
    told, variables = tmp_path / "told", tmp_path / "variables"
    settings = config(command=f'cat > {told}; echo "$REDI_RAY_EVENT|$REDI_RAY_RUN|$REDI_RAY_URI" > {variables}')
    with told_to_others(settings) as ending:
        ending.facts["scores"] = {"redi": {"arithmetic": 0.9}}
    found = json.loads(told.read_text())
    assert (found["event"], found["run"], found["scores"]) == ("done", "demo", {"redi": {"arithmetic": 0.9}})
    assert found["text"].startswith("redi-ray demo: done after ")
    assert variables.read_text() == "done|demo|runs/demo\n"
    notify(config(command=["tee", str(tmp_path / "as list")]), "failed", "so")
    assert json.loads((tmp_path / "as list").read_text())["event"] == "failed"


def test_a_webhook_hears_of_failures_with_their_error_and_notes(hook: Hook, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOOK", hook.url)
    settings = config(webhook_env="HOOK")
    error = UserError("no GPU is left")
    error.add_note("in step redi (train)")
    with pytest.raises(UserError), told_to_others(settings):
        raise error
    with pytest.raises(Preempted), told_to_others(settings):
        raise Preempted("saved")  # not among those that are told by default
    with pytest.raises(KeyboardInterrupt), told_to_others(config(webhook=hook.url, on=["done", "failed", "preempted"])):
        raise KeyboardInterrupt  # whoever pressed it knows
    with pytest.raises(Preempted), told_to_others(config(webhook=hook.url, on=["preempted"])):
        raise Preempted("saved")
    assert [told["event"] for told in hook.seen] == ["failed", "preempted"]
    assert hook.seen[0]["error"] == "UserError: no GPU is left\nin step redi (train)"


def test_nothing_that_goes_wrong_with_telling_ends_the_run(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A command that fails, hangs with children, or is not there; a webhook that refuses, hangs, or is not there."""
    monkeypatch.setenv("SECRET_HOOK", "http://127.0.0.1:9/secret")
    slow, refusing = Hook(delay=5.0), Hook(status=500)
    monkeypatch.setattr(logging.getLogger("redi_ray"), "propagate", True)
    ways = [
        {"command": "exit 3"},
        {"command": "sleep 60 & sleep 60", "timeout_seconds": 0.3},
        {"command": ["no-such-program"]},
        {"webhook": refusing.url},
        {"webhook": slow.url, "timeout_seconds": 0.3},
        {"webhook_env": "SECRET_HOOK"},
        {"webhook_env": "NOT_SET"},
    ]
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="redi_ray"):
        for way in ways:
            notify(config(**way), "done", "now")
    assert time.monotonic() - begun < 30
    told = list(
        dict.fromkeys(record.getMessage() for record in caplog.records)
    )  # twice where another test lets them through
    assert len(told) == len(ways)
    for line, why in zip(told, ("code 3", "0.3 s", "FileNotFound", "500", "0.3 s", "Connect", "NOT_SET"), strict=True):
        assert why in line
    assert "secret" not in caplog.text


def test_an_address_that_is_a_secret_is_refused_without_being_repeated():
    for address in (
        "https://hooks.slack.com/services/T0/B0/x",
        "https://host/hook?token=abc",
        "https://user:pass@host/hook",
        "https://host/hooks/a1b2c3d4e5f6a1b2c3d4e5f6a1",
        "ftp://host/x",
    ):
        with pytest.raises(ConfigError) as refused:
            config(webhook=address)
        assert address not in str(refused.value)
    with pytest.raises(ConfigError, match="not both"):
        config(webhook="http://host/hook", webhook_env="HOOK")
    assert config(webhook="http://10.0.0.7:8080/hooks/redi").notify.webhook == "http://10.0.0.7:8080/hooks/redi"


def test_durations_are_words():
    told = {0.2: "0 s", 42: "42 s", 220: "3 min 40 s", 3600: "1 h", 18_130: "5 h 2 min", 183_600: "2 d 3 h"}
    assert {seconds: duration(seconds) for seconds in told} == told
