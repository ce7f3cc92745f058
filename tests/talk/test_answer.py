"""Answers are those of the run's model asked as it was trained, and judged where the run knows the problem."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from processes import run as command
from rich.console import Console
from rich.text import Text
from tiny_talker import SOLVED

from redi_ray.cli.chat import chat, side_by_side
from redi_ray.talk.answer import AskSettings, answer
from redi_ray.talk.conversation import Conversation
from redi_ray.talk.known import KnownProblems
from redi_ray.talk.models import TalkError, find_speakers


def test_a_known_problem_is_asked_as_in_training_and_judged(talk_run: str):
    (model,) = find_speakers(talk_run, ["base"])
    settings, seen = AskSettings.of(model.config.evaluate), []
    with KnownProblems(model.run_uri, model.config) as known:
        conversation = Conversation([model], known, settings)
        found = conversation.ask("case 0:   RED", lambda model, text: seen.append(text))
        (said,) = found.said
        assert said.answer.text == SOLVED.format(colour="RED")
        assert (said.answer.finished, said.answer.response) == (True, "\\boxed{RED}")
        assert (found.problem.problem_id, said.judged.verdict, said.judged.extracted) == ("p0", "correct", "RED")
        assert seen[0].startswith("<think>\n")
        assert seen[-1] == said.answer.text
        assert conversation.histories["base"][-1] == {"role": "assistant", "content": "\\boxed{RED}"}
        (wrong,) = conversation.ask_problem("p1").said
        assert (wrong.judged.verdict, wrong.judged.gold) == ("wrong", "RED")
        assert len(conversation.histories["base"]) == 2  # a problem begins a new chat
        assert conversation.ask("case 77: RED").problem is None
        with pytest.raises(TalkError, match="no problem p9; there are, for instance, p0, p1, p2"):
            conversation.ask_problem("p9")
        conversation.settings = replace(settings, max_tokens=3)
        (cut,) = conversation.ask("case 0: RED").said
        assert (cut.answer.finished, cut.answer.tokens) == (False, 3)
        assert cut.judged.verdict == "no_answer"


def test_sampling_follows_its_seed_and_a_chat_must_end_with_a_question(talk_run: str):
    (model,) = find_speakers(talk_run, ["base"])
    asked = [{"role": "user", "content": "case 0: RED"}]
    hot = [AskSettings(temperature=8.0, top_p=1.0, max_tokens=20, seed=seed) for seed in (1, 1, 2)]
    one, again, other = (answer([model], asked, settings)[0].text for settings in hot)
    assert one == again != other
    with pytest.raises(TalkError, match="begins and ends with a user's turn"):
        answer([model], [*asked, {"role": "assistant", "content": "?"}], hot[0])
    with pytest.raises(TalkError, match="the model reads 256; begin a new one"):
        answer([model], [{"role": "user", "content": "RED " * 400}], hot[0])
    with pytest.raises(TalkError, match="top_p 0"):
        AskSettings(top_p=0.0)


def test_the_command_asks_once_side_by_side_or_line_by_line(talk_run: str):
    """Scripts get one JSON object per answer, and nothing else on stdout."""
    told = command("chat", talk_run, "--model", "base", "--model", "base", "--ask", "case 2: RED", "--json")
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert [(line["model"], line["verdict"], line["problem_id"]) for line in lines] == [("base", "correct", "p2")] * 2
    (model,) = find_speakers(talk_run, ["base"])
    for width, columns in ((100, True), (60, False)):
        terminal = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
        chat([model, model], AskSettings.of(model.config.evaluate), problem="p3", console=terminal)
        shown = terminal.file.getvalue()
        assert "problem p3 of problems; the answer is RED" in shown
        assert any(line.count("\\boxed{BLUE}") == 2 for line in shown.splitlines()) is columns
        assert shown.count("base  wrong") == 2


def test_what_a_model_writes_does_not_move_the_cursor():
    """Escape sequences are shown, not obeyed."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    console.print(side_by_side([(Text("m"), "\x1b[2J\x07gone")], console))
    assert "\x1b[2J" not in console.file.getvalue()
    assert "␛[2J␇gone" in console.file.getvalue()
