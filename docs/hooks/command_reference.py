"""The page that lists every command with its arguments and options, made from the command line itself."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from config_reference import prose

from redi_ray.cli.app import COMMANDS, app
from redi_ray.errors import EXIT_CODES

PAGE = "reference/commands.md"


def pages() -> dict[str, str]:
    """Path below `docs/` -> Markdown."""
    commands = command_line().commands
    lines = ["# Every command", "", f"Made from the code; `redi-ray COMMAND --help` prints the same. {EXIT_CODES}", ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {_first_sentence(command.help)} |" for name, command in commands.items()]
    for name, command in commands.items():
        lines += _section(name, command)
    return {PAGE: "\n".join(lines) + "\n"}


def command_line() -> Any:
    """The `redi-ray` command as click sees it: a group with `commands`."""
    return typer.main.get_command(app)


def _first_sentence(text: str | None) -> str:
    whole = " ".join((text or "").split())
    end = whole.find(". ")
    return prose(whole if end < 0 else whole[: end + 1])


def _section(name: str, command: Any) -> list[str]:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    usage = " ".join(["redi-ray", name, *(_shown(item) for item in arguments), *(["[OPTIONS]"] if options else [])])
    lines = ["", f"## {name} {{ #{name} }}", "", "```text", usage, "```", "", prose(command.help or ""), ""]
    for item in arguments:
        lines += [f"`{item.metavar or item.name.upper()}`", f":   {prose(item.help or '')}", ""]
    types = inspect.signature(COMMANDS[name], eval_str=True).parameters
    for item in options:
        names = ", ".join(f"`{flag}`" for flag in [*item.opts, *item.secondary_opts])
        lines += [
            f'{names} <span class="field" markdown>{_kind(item, types[item.name].annotation)}</span>',
            f":   {prose(item.help or '')}",
            "",
        ]
    return lines


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _kind(option: Any, annotation: Any) -> str:
    """What an option takes, and what it is without."""
    parts = [_words(annotation)] if not option.is_flag else []
    parts += ["again for several"] if option.multiple else []
    given = option.default
    parts += [f"default `{given}`"] if isinstance(given, str | int | float) and not option.is_flag else []
    return "; ".join(parts)


def _words(annotation: Any) -> str:
    """The type of an option's value in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    inner = [part for part in get_args(annotation) if part is not NoneType]
    if inner:
        return _words(inner[0])
    return {int: "whole number", float: "number", bool: "`true` or `false`"}.get(annotation, "text")
