"""Rate and time left are those of the work at hand, whatever came before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redi_ray.stages import bars
from redi_ray.stages.bars import Pace, WorkBar, terminal_bar
from redi_ray.stages.launch import show_newest


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(done: float = 0) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(done, clock), clock


def test_the_start_and_what_was_found_done_do_not_count():
    """An engine that starts for 5 minutes, and 900 rows of an earlier attempt: then 10 rows a second."""
    pace, clock = paced()
    pace.found(900)
    assert pace.rate() is None
    for second in range(1, 21):
        clock.now = 300 + second
        pace.note(900 + 10 * second)
    assert pace.rate() == pytest.approx(10)
    assert pace.left(1100, 2000) == pytest.approx(90)


def test_a_cluster_that_grows_or_shrinks_is_noticed():
    pace, clock = paced()
    done = 0.0
    for second in range(1, 1200):
        clock.now = second
        done += 5 if second < 1000 else 50
        pace.note(done)
    assert 25 < pace.rate() < 50  # the last quarter of the time
    for second in range(1200, 1700):
        clock.now = second
        done += 50
        pace.note(done)
    assert pace.rate() == pytest.approx(50)


def test_lumps_are_measured_from_lump_to_lump():
    """A shard of 512 every 100 s is 5.12 a second, at whatever moment one looks."""
    pace, clock = paced()
    for shard in range(1, 5):
        clock.now = 100.0 * shard
        pace.note(512 * shard)
    for later in (0, 50, 99):
        clock.now = 400 + later
        assert pace.rate() == pytest.approx(5.12)
    clock.now = 4000  # and nothing came any more
    assert pace.rate() < 1


def test_a_first_lump_says_something_and_no_total_says_nothing():
    pace, clock = paced(100)
    clock.now = 10
    pace.note(150)
    assert pace.rate() == pytest.approx(5)
    assert pace.left(150, None) is None
    assert pace.left(150, 100) == 0


def test_a_bar_in_a_log_shows_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr(bars.Pace, "__init__", lambda self, done=0, made=Pace.__init__: made(self, done, clock))
    with WorkBar("verify", 1000, "rows") as bar:
        bar(700, found=700)
        for second in range(1, 11):
            clock.now = 60 + second
            bar(10, tokens=100)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "800/1000" in last
    assert "<00:20, 10.00 rows/s, 100 tok/s" in last


def test_a_resumed_training_counts_only_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock, metrics = Clock(), tmp_path / "metrics.jsonl"
    monkeypatch.setattr(bars.Pace, "__init__", lambda self, done=0, made=Pace.__init__: made(self, done, clock))
    bar, shown = terminal_bar("train", 1000, "steps", found=400), dict[str, str]()
    for step in range(400, 421):
        clock.now = 30.0 + step - 400
        dev = ', "dev_accuracy": 0.5' if step == 405 else ""
        metrics.write_text(metrics.read_text() if metrics.exists() else "")
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "loss": 0.25})[:-1] + dev + "}\n")
        show_newest(bar, str(metrics), shown)
    assert (bar.n, bar.format_dict["rate"]) == (421, pytest.approx(1.0))
    assert shown == {"loss": "0.25", "dev_accuracy": "0.5"}
    with metrics.open("a") as file:
        file.write('{"step": 421, "lo')  # a line that is being written
    show_newest(bar, str(metrics), shown)
    assert bar.n == 421
    bar.close()
