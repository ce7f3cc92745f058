"""`redi-ray chat`: models of a run on the terminal, their answers side by side as they are written."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from redi_ray.cli.marked import visible
from redi_ray.errors import UserError
from redi_ray.talk.answer import AskSettings, Show
from redi_ray.talk.conversation import Conversation, Round, Said
from redi_ray.talk.known import KnownProblems
from redi_ray.talk.models import RunModel

HELP = (
    "/problem ID asks one of the run's problems, /new begins anew, /quit (or ctrl-D) ends, ctrl-C breaks an answer off"
)
STYLES = {"correct": "bold green", "wrong": "bold red"}
FRAMES_PER_SECOND = 8
LEAST_COLUMN = 36
"""Characters; where answers side by side would have fewer, they stand below each other."""

Ask = Callable[[Show], Round]


def chat(
    models: Sequence[RunModel],
    settings: AskSettings,
    *,
    ask: str | None = None,
    problem: str | None = None,
    as_json: bool = False,
    console: Console | None = None,
) -> None:
    """Ask `ask`, or the problem of this id, once; without both, or with a problem on a terminal, go on until the user ends it.

    Raises TalkError for what cannot be asked.
    """
    console = console or Console()
    talks = ask is None and not as_json and sys.stdin.isatty() and console.is_terminal
    with KnownProblems(models[0].run_uri, models[0].config) as known:
        conversation = Conversation(models, known, settings)
        if problem is not None:
            _once(partial(conversation.ask_problem, problem), models, console, as_json)
        elif ask is not None:
            _once(partial(conversation.ask, ask), models, console, as_json)
        elif not talks:
            for line in sys.stdin:  # a question a line, each a chat of its own
                if question := line.strip():
                    conversation.restart()
                    _once(partial(conversation.ask, question), models, console, as_json)
        if talks:
            _talk(conversation, console)


def _talk(conversation: Conversation, console: Console) -> None:
    """Read questions until the user ends it; a question that cannot be asked is told, and the next one read."""
    with suppress(ImportError):
        import readline  # noqa: F401  # which `input` edits its line by
    console.print(Text(_heading(conversation), "dim"))
    console.print(Text(HELP, "dim"))
    while True:
        try:
            line = input("\nyou> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        command, _, rest = line.partition(" ")
        try:
            if command in ("/quit", "/exit"):
                return
            if command == "/new":
                conversation.restart()
            elif command == "/problem" and rest.strip():
                _once(partial(conversation.ask_problem, rest.strip()), conversation.models, console)
            elif command.startswith("/"):
                console.print(Text(HELP, "dim"))
            elif line:
                _once(partial(conversation.ask, line), conversation.models, console)
        except UserError as error:
            console.print(Text(f"error: {error}", "red"))
        except KeyboardInterrupt:
            console.print(Text("broken off; the chats are as before", "dim"))


def _heading(conversation: Conversation) -> str:
    drawn, names = conversation.settings, ", ".join(model.name for model in conversation.models)
    limits = f"up to {drawn.max_tokens:,} tokens, seed {drawn.seed}"
    return f"{names}; temperature {drawn.temperature:g}, top-p {drawn.top_p:g}, {limits}"


def _once(ask: Ask, models: Sequence[RunModel], console: Console, as_json: bool = False) -> None:
    """One question: shown while it is answered on a terminal, printed once it is elsewhere."""
    if as_json:
        found = ask(lambda model, text: None)
        for said in found.said:
            console.file.write(json.dumps(said.plain(found.question, found.problem), ensure_ascii=False) + "\n")
        console.file.flush()
        return
    if not console.is_terminal:
        print_round(ask(lambda model, text: None), console)
        return
    texts = dict.fromkeys((model.name for model in models), "")
    drawn = 0.0
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(model: RunModel, text: str) -> None:
            nonlocal drawn
            texts[model.name] = text
            if time.monotonic() - drawn >= 1 / FRAMES_PER_SECOND:
                drawn = time.monotonic()
                live.update(
                    side_by_side([(Text(name, "bold"), _end(said, console)) for name, said in texts.items()], console)
                )
                live.refresh()

        found = ask(show)
    print_round(found, console)


def _end(text: str, console: Console) -> str:
    """Of a long answer what a terminal has room for while it is written."""
    return "\n".join(text.splitlines()[-max(4, console.height - 6) :])


def print_round(found: Round, console: Console) -> None:
    """The answers, each under what is known of it."""
    if found.problem is not None:
        gold = "" if found.problem.answer is None else f"; the answer is {found.problem.answer}"
        told = f"problem {found.problem.problem_id} of {found.problem.table}{gold}"
        console.print(Text(visible(told), "dim"), soft_wrap=True)
    console.print(side_by_side([(_heading_of(said), said.answer.text) for said in found.said], console))


def _heading_of(said: Said) -> Text:
    found = said.answer
    heading = Text(found.model, "bold")
    if said.judged is not None:
        heading.append(f"  {said.judged.verdict}", STYLES.get(said.judged.verdict, "bold yellow"))
    rate = f", {found.tokens / found.seconds:,.0f} tok/s" if found.seconds else ""
    cut = "" if found.finished else ", cut off at its limit"
    return heading.append(f"  {found.tokens:,} tokens in {found.seconds:.1f} s{rate}{cut}", "not bold dim")


def side_by_side(shown: Sequence[tuple[Text, str]], console: Console) -> RenderableType:
    """(heading, text) each; below each other in a pipe and on a narrow terminal."""
    parts = [(heading, Text(visible(text))) for heading, text in shown]
    if not console.is_terminal or console.width < LEAST_COLUMN * len(parts):
        return Group(*(one for part in parts for one in (*part, Text())))
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in parts:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*(heading for heading, _ in parts))
    table.add_row(*(text for _, text in parts))
    return table
