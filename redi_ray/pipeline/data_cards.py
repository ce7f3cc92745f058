"""The card of a step's tables, for whoever gets them without the run: where they are from, what may be done with them, what was
dropped on the way and why, columns, settings, commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.modeling.cards import cell, two_columns
from redi_ray.modeling.tokenizer import is_folder
from redi_ray.pipeline.cards import GENERATED, UNKNOWN, Made, licences_of, place_of, sets_of, told_of
from redi_ray.pipeline.graph import Graph, Step

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""Fewer rows than this -> what the hub calls such a size."""
LARGEST = "10M<n<100M"
MOST_SOURCES = 50
"""Sources that are listed by name."""


@dataclass(frozen=True)
class TableFacts:
    """What a card tells of one table."""

    name: str
    rows: int
    files: int
    bytes: int
    columns: pa.Schema
    sources: Mapping[str, int] = field(default_factory=dict)
    """Rows by the column `source`, where the table has one."""


@dataclass(frozen=True)
class Passage:
    """What a step on the way made of what came in."""

    step: str
    kind: str
    came: int | None
    """None where its output is no part of what came in."""
    stayed: int
    left: Mapping[str, int]
    """Reason -> rows."""


@dataclass(frozen=True)
class DataCard:
    """What a card tells."""

    name: str
    intro: str
    tables: Sequence[TableFacts]
    history: Sequence[str] = ()
    """How the rows came about, a step a line."""
    passages: Sequence[Passage] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Step -> what decided its output, without places of this machine."""
    datasets: Sequence[str] = ()
    """Names on the hub."""
    licence: str | None = None
    """By the hub's names; None where it is not known, or sources differ."""
    licences: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def data_card_of(
    config: ExperimentConfig, graph: Graph, name: str, made: Made, tables: Sequence[TableFacts]
) -> DataCard:
    """What is known of a step's tables. made: holds the step and what it comes from, as far as that is there."""
    way, sets = graph.needed_for([name]), sets_of(config)
    licences = licences_of(config, sets)
    own = set(licences.values())
    passages = [found for step in way if (found := _passage(step, made))]
    told = {one.step for one in passages if one.left} | {name}
    return DataCard(
        name=f"{config.name}: {name}",
        intro=f"Output of the step `{name}` ({graph[name].kind}) of the run `{config.name}`, made with redi_ray.",
        tables=tables,
        history=[line for step in way for line in told_of(step, config, made)],
        passages=passages,
        verdicts=made[name].facts.get("verdicts", {}),
        settings={step.name: shown(made[step.name].config) for step in way if step.name in told},
        datasets=[dataset for dataset in sets.values() if dataset],
        licence=own.pop() if len(own) == 1 and not own & {UNKNOWN, GENERATED} else None,
        licences=licences,
        versions=made[name].versions,
    )


def _passage(step: Step, made: Made) -> Passage | None:
    found = made.get(step.name)
    if found is None or "out" not in found.counts:
        return None
    left = dict(found.dropped) | {f"{reason} (rejected)": count for reason, count in found.rejected.items()}
    return Passage(step.name, step.kind, found.counts.get("in"), found.counts["out"], left)


def shown(value: Any) -> Any:
    """Settings as a card may have them: of every path and address the last part alone."""
    if isinstance(value, Mapping):
        return {str(name): shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if (
        isinstance(value, str)
        and "\n" not in value
        and ("://" in value or value.startswith(("/", "./", "../", "~")) or is_folder(value))
    ):
        return place_of(value)
    return value


def render_data_card(card: DataCard) -> str:
    """The card as Markdown behind the YAML that the hub reads."""
    parts = [f"---\n{_metadata(card)}\n---\n\n# {card.name}", card.intro, _tables(card.tables)]
    parts += [
        f"### Columns of `{table.name}`\n\n{two_columns({'column': 'type'}, _types(table.columns))}"
        for table in card.tables
    ]
    if card.history:
        parts.append("## How it was made\n\n" + "\n".join(f"{n}. {line}" for n, line in enumerate(card.history, 1)))
    if card.passages:
        parts.append("## What stayed, and what did not\n\n" + _passages(card.passages))
    if card.verdicts:
        parts.append("## Verdicts\n\n" + two_columns({"verdict": "rows"}, _numbers(card.verdicts)))
    parts += [f"## Sources of `{table.name}`\n\n{_sources(table.sources)}" for table in card.tables if table.sources]
    if card.licences:
        parts.append("## Licences\n\n" + two_columns({"of": "licence"}, card.licences))
    if card.settings:
        text = yaml.safe_dump(dict(card.settings), sort_keys=False, allow_unicode=True, width=120)
        parts.append(f"## Settings\n\nOf this step, and of those that left rows out.\n\n~~~yaml\n{text}~~~")
    if card.versions:
        parts.append("## Versions\n\n" + two_columns({"package": "version"}, card.versions))
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(card: DataCard) -> str:
    from huggingface_hub import DatasetCardData  # some tenths of a second

    rows = max((table.rows for table in card.tables), default=0)
    data = DatasetCardData(
        license=card.licence,
        pretty_name=card.name,
        source_datasets=list(card.datasets) or None,
        size_categories=next((size for most, size in SIZES if rows < most), LARGEST),
        tags=["redi_ray", "reasoning"],
        configs=[{"config_name": table.name, "data_files": f"{table.name}/**/*.parquet"} for table in card.tables],
    )
    return data.to_yaml()


def _tables(tables: Iterable[TableFacts]) -> str:
    lines = [f"| `{one.name}` | {one.rows:,} | {one.files:,} | {one.bytes:,} |" for one in tables]
    return "\n".join(["| table | rows | files | bytes |", "|---|---|---|---|", *lines])


def _types(columns: pa.Schema) -> dict[str, str]:
    return {f"`{column.name}`": f"`{column.type}`" for column in columns}


def _numbers(counts: Mapping[str, int]) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in counts.items()}


def _sources(sources: Mapping[str, int]) -> str:
    ordered = sorted(sources.items(), key=lambda one: (-one[1], one[0]))
    rows = dict(ordered[:MOST_SOURCES])
    if rest := ordered[MOST_SOURCES:]:
        rows[f"{len(rest):,} more"] = sum(count for _, count in rest)
    return two_columns({"source": "rows"}, _numbers(rows))


def _passages(passages: Iterable[Passage]) -> str:
    def lines(one: Passage) -> Iterator[str]:
        came = "" if one.came is None else f"{one.came:,}"
        yield f"| `{one.step}` ({one.kind}) | {came} | {one.stayed:,} | | |"
        for reason, count in one.left.items():
            yield f"| | | | {cell(reason)} | {count:,} |"

    head = ["| step | came in | came out | left out for | rows |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(line for one in passages for line in lines(one))])
