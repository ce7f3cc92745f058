"""A server asks models that another process holds: one question at a time, none for ever."""

from __future__ import annotations

import threading

import pytest
from processes import wait_until

from redi_ray.talk.models import TalkError
from redi_ray.talk.process import Busy, TalkProcess, bounded


def test_questions_are_answered_one_at_a_time_and_a_chat_goes_on(talk_run: str):
    process = TalkProcess()
    try:
        refused: list[BaseException] = []

        def second() -> None:
            wait_until(lambda: process._process is not None, 60)
            try:
                process.ask(talk_run, ["base"], "x")
            except Busy as error:
                refused.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        first = process.ask(talk_run, ["base"], "case 0: RED")
        thread.join()
        assert len(refused) == 1
        (said,) = first["said"]
        assert (said["verdict"], said["response"], first["problem"], first["answer"]) == (
            "correct",
            "\\boxed{RED}",
            "p0",
            "RED",
        )
        held = process._process
        more = process.ask(
            talk_run,
            ["base"],
            "case 5: BLUE",
            histories=first["histories"],
            settings={"temperature": 0, "max_tokens": 2},
        )
        assert len(more["histories"]["base"]) == 4
        assert more["said"][0]["tokens"] == 2
        with pytest.raises(TalkError, match="no model named nobody"):
            process.ask(talk_run, ["nobody"], "x")
        assert process._process is held  # the models are still in memory
        assert process.ask(talk_run, ["base"], "", problem="p1")["said"][0]["verdict"] == "wrong"
    finally:
        process.close()


def test_what_takes_too_long_ends_and_idle_models_go(talk_run: str):
    hasty = TalkProcess(question_seconds=0.2)
    with pytest.raises(TalkError, match=r"no answer within 0.2 s"):
        hasty.ask(talk_run, ["base"], "x")
    assert hasty._process is None
    idle = TalkProcess(idle_seconds=0.2)
    with pytest.raises(TalkError, match="no run is there"):
        idle.ask("/nowhere", ["base"], "x")
    wait_until(lambda: idle._process is None)


def test_what_is_asked_has_limits(talk_run: str):
    process = TalkProcess()
    for models, question, why in (
        ([], "x", "1 to 4"),
        (["a"] * 5, "x", "1 to 4"),
        (["a"], "x" * 200_000, "begin a new one"),
    ):
        with pytest.raises(TalkError, match=why):
            process.ask(talk_run, models, question)
    assert process._process is None
    assert bounded({"max_tokens": 10**9})["max_tokens"] == 4096
    with pytest.raises(TalkError, match="no setting tools"):
        bounded({"tools": 1})
