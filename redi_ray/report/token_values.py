"""Numbers of tokens -> spans of characters, so that a column at grain `token` is drawn as any other.

A column has a number for each token of the model's own turns, turn after turn, with the one that closes a turn where it was not
cut off (`redi_ray.schemas.token_scores`). The closing tokens have no characters and are not drawn. A number is drawn as what it
weighs, -1 (strong red) to 1 (strong green).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import yaml

from redi_ray.config.group_steps import ScoreStep
from redi_ray.config.load import parse_config
from redi_ray.config.names import BASE
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import ContrastStep, LogpsStep
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.pipeline.rounds import written
from redi_ray.report.beside import COLUMNS
from redi_ray.schemas import turns_of
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.text.templates import ASSISTANT
from redi_ray.text.tokens import places_in

Turns = Sequence[Mapping[str, str]]
Spans = list[dict[str, Any]]


def value_spans(turns: Turns, values: Sequence[float], tokenizer: Any, prompt: PromptSettings) -> Spans:
    """A span for tokens beside each other that have the same number, to a tenth.

    Raises ValueError where the numbers are not of these turns' tokens.
    """
    own = [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    found, at = Spans(), 0
    for number in own:
        places = places_in(turns[number]["content"], tokenizer, prompt)
        for (start, end), value in zip(places, values[at : at + len(places)], strict=True):
            span = {"turn": number, "start": start, "end": end, "label": "", "value": round(value, 1)}
            if found and (found[-1]["turn"], found[-1]["end"], found[-1]["value"]) == (number, start, span["value"]):
                found[-1]["end"] = end
            else:
                found.append(span)
        at += len(places) + (number != own[-1])
    if len(values) - at not in (0, 1):
        raise ValueError(f"{len(values)} numbers for {at} tokens")
    return found


def weights_of(step: Any, values: Sequence[float]) -> list[float]:
    """What the tokens of a sample weigh, -1 to 1, by the settings of the step that has made their numbers.

    `contrast`: the number less 1, what cDPO weighs a rejected token by, so that a critical token is strongest. `logps`: the
    probability less 1, so that what the model did not expect is strongest. A reward model's logits: 2 sigmoid(their running mean)
    - 1, what OREAL weighs right samples by where it is above 0, wrong ones where it is below.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if isinstance(step, ContrastStep):
        weights = numbers - 1
    elif isinstance(step, LogpsStep):
        weights = np.expm1(numbers)
    elif isinstance(step, ScoreStep):
        weights = np.tanh(np.cumsum(numbers) / np.arange(1, len(numbers) + 1) / 2)
    else:
        weights = numbers
    return np.clip(weights, -1, 1).tolist()


def drawn(rows: Iterable[dict[str, Any]], run: str) -> Iterator[dict[str, Any]]:
    """Samples of a run with their columns, numbers of tokens as spans where they are of the base model's tokens."""
    reader = cache(lambda: _reader_of(run))
    for row in rows:
        columns = dict(row.get(COLUMNS, {}))
        for name, said in columns.items():
            if isinstance(said, bytes):  # a teacher's distributions
                columns[name] = f"{len(said):,} bytes"
            if isinstance(said, list) and said and isinstance(said[0], float) and (read := reader()) is not None:
                with suppress(ValueError):
                    columns[name] = read(name, turns_of(row), said)
        yield {**row, COLUMNS: columns}


def _reader_of(run: str) -> Callable[[str, Turns, Sequence[float]], Spans] | None:
    """What makes spans of a column's numbers by a run's tokenizer; None where there is none yet."""
    try:
        config = parse_config(yaml.safe_load(storage.read_bytes(storage.join(run, "config.yaml"))))
        export = current_manifest(run, f"checkpoints/{BASE}").facts["export"]
        tokenizer = load_tokenizer(export, config.model.overrides.trust_remote_code)
    except (UserError, OSError, KeyError, yaml.YAMLError):
        return None

    def read(column: str, turns: Turns, values: Sequence[float]) -> Spans:
        weights = weights_of(config.steps.get(written(column)), values)
        return value_spans(turns, weights, tokenizer, config.model.prompt)

    return read
