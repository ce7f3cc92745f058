"""Numbers of tokens -> spans of characters, so that a column at grain `token` is drawn as any other.

A column has a number for each token of the model's own turns, turn after turn, with the one that closes a turn where it was not
cut off (`redi_ray.schemas.token_scores`). The closing tokens have no characters and are not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import yaml

from redi_ray.config.load import parse_config
from redi_ray.config.names import BASE
from redi_ray.config.prompts import PromptSettings
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.report.beside import COLUMNS
from redi_ray.schemas import turns_of
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.text.templates import ASSISTANT
from redi_ray.text.tokens import places_in

Turns = Sequence[Mapping[str, str]]
Spans = list[dict[str, Any]]


def value_spans(turns: Turns, values: Sequence[float], tokenizer: Any, prompt: PromptSettings) -> Spans:
    """A span for tokens beside each other that have the same number, to a tenth. Its value is that less 1, what cDPO weighs a
    rejected token by: a critical token, whose number is small, is drawn in strong red, one that nobody doubts hardly at all.

    Raises ValueError where the numbers are not of these turns' tokens.
    """
    own = [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    found, at = Spans(), 0
    for number in own:
        places = places_in(turns[number]["content"], tokenizer, prompt)
        for (start, end), value in zip(places, values[at : at + len(places)], strict=True):
            span = {"turn": number, "start": start, "end": end, "label": "", "value": round(value - 1, 1)}
            if found and (found[-1]["turn"], found[-1]["end"], found[-1]["value"]) == (number, start, span["value"]):
                found[-1]["end"] = end
            else:
                found.append(span)
        at += len(places) + (number != own[-1])
    if len(values) - at not in (0, 1):
        raise ValueError(f"{len(values)} numbers for {at} tokens")
    return found


def drawn(rows: Iterable[dict[str, Any]], run: str) -> Iterator[dict[str, Any]]:
    """Samples of a run with their columns, numbers of tokens as spans where they are of the base model's tokens."""
    reader = cache(lambda: _reader_of(run))
    for row in rows:
        columns = dict(row.get(COLUMNS, {}))
        for name, said in columns.items():
            if isinstance(said, list) and said and isinstance(said[0], float) and (read := reader()) is not None:
                with suppress(ValueError):
                    columns[name] = read(turns_of(row), said)
        yield {**row, COLUMNS: columns}


def _reader_of(run: str) -> Callable[[Turns, Sequence[float]], Spans] | None:
    """What makes spans of numbers by a run's tokenizer; None where there is none yet."""
    try:
        config = parse_config(yaml.safe_load(storage.read_bytes(storage.join(run, "config.yaml"))))
        export = current_manifest(run, f"checkpoints/{BASE}").facts["export"]
        tokenizer = load_tokenizer(export, config.model.overrides.trust_remote_code)
    except (UserError, OSError, KeyError, yaml.YAMLError):
        return None
    return lambda turns, values: value_spans(turns, values, tokenizer, config.model.prompt)
