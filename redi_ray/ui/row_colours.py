"""Tokens of a row in colours: what can be asked for of it, the work that this takes, and the parts that come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.errors import UserError
from redi_ray.pipeline.graph import Graph
from redi_ray.report.beside import KEY
from redi_ray.report.filters import BrowseError
from redi_ray.report.row_pages import StillLooking, find_row
from redi_ray.report.row_parts import MOST_MEMBERS, Part, answers_of, token_turns
from redi_ray.report.row_places import read_rows
from redi_ray.report.row_tables import TRACES, RowTable
from redi_ray.report.token_series import COLUMN, LOGP, TOKENS, WEIGHT
from redi_ray.schemas import TOKEN_COLUMNS, TOKEN_WEIGHTS
from redi_ray.stages.groups import TO_GROUP
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.ui.row_scales import CHANGE, SECOND, Legend, failed, scale_of, sums_of, values_of, words_of
from redi_ray.ui.run_rows import SECONDS, graph_of, models_of, table_of
from redi_ray.ui.token_jobs import Answer, TokenJobs, Wanted, require_room

MOST_MODELS = 2


@dataclass(frozen=True)
class Choice:
    """A colour that can be asked for."""

    value: str
    label: str
    needs: Sequence[str] = ()
    """Series."""


@dataclass(frozen=True)
class Colours:
    """The tokens of a row, as far as they are there."""

    choices: Sequence[Choice]
    chosen: str
    scored: Sequence[str]
    """Models whose log-probs were asked for."""
    models: Sequence[str]
    """That can be asked for."""
    parts: Sequence[Part] = ()
    legend: Legend | None = None
    since: float | None = None
    """Seconds that the work has been going on; None where there is none."""
    errors: Sequence[str] = ()


@dataclass
class Coloured:
    """A row whose tokens may be asked for."""

    run: str
    table: RowTable
    row: Mapping[str, Any]
    columns: Mapping[str, Any]
    """What steps say of it, by name."""
    jobs: TokenJobs

    @property
    def graph(self) -> Graph:
        return graph_of(self.run)

    def shown(self, colour: str, scored: Sequence[str]) -> Colours:
        """The row in a colour. colour: a choice's value, empty for that which suits; scored: models to score it by. Raises
        StillLooking where a trace that it was made of is not found in time."""
        scored = list(dict.fromkeys(scored))[:MOST_MODELS]
        choices = [*self.weight_choices(), *self.column_choices(), *self.score_choices(scored)]
        values = {choice.value for choice in choices}
        if colour not in values:
            colour = CHANGE if CHANGE in values else LOGP if LOGP in values else ""
        models = self.models
        if not colour:
            return Colours(choices, "", scored, models)
        needs = [TOKENS, *next(choice.needs for choice in choices if choice.value == colour)]
        needs += [f"{LOGP}:{model}" for model in scored if f"{LOGP}:{model}" not in needs]
        try:
            wanted = {name: found for name in needs if (found := self.wanted(name)) is not None}
            answer = self.jobs.ask(self.run, self.row, self.table.table, wanted)
        except StillLooking:
            raise
        except UserError as error:
            return Colours(choices, colour, scored, models, errors=[str(error)])
        causes = dict[str, list[str]]()
        for name, found in answer.series.items():
            if failed(found):
                causes.setdefault(found["error"], []).append(name.partition(":")[2] or name)
        errors = [f"{', '.join(dict.fromkeys(names))}: {cause}" for cause, names in causes.items()]
        told = self._parts(colour, scored, answer) if answer.since is None else None
        parts, legend = told or ([], None)
        return Colours(choices, colour, scored, models, parts, legend, answer.since, errors)

    def weight_choices(self) -> list[Choice]:
        """The trainings that learn from the row."""
        if self.table.table not in TO_GROUP:
            return []
        found = [
            step.name for step in self.graph if step.kind == "train" and step.inputs.get("groups") == self.table.step
        ]
        return [Choice(f"{WEIGHT}:{name}", f"loss weight, {name}", [f"{WEIGHT}:{name}"]) for name in found]

    def column_choices(self) -> list[Choice]:
        """The numbers of tokens that are stored."""
        names = [name for name in self.table.beside if self.table.grain(name) == "token"]
        if self.row.get(TOKEN_WEIGHTS) is not None:
            names.append(TOKEN_WEIGHTS)
        names += [one["name"] for one in self.row.get(TOKEN_COLUMNS) or ()]
        names += [name for name in self.samples_columns() if name not in names]
        return [Choice(f"{COLUMN}:{name}", name.replace("_", " "), [f"{COLUMN}:{name}"]) for name in names]

    def score_choices(self, scored: Sequence[str]) -> list[Choice]:
        names = [f"{LOGP}:{model}" for model in scored]
        found = [
            Choice(way, f"log-prob, {model}", [name])
            for way, model, name in zip((LOGP, SECOND), scored, names, strict=False)
        ]
        return [*found, Choice(CHANGE, f"change, {scored[0]} to {scored[1]}", names)] if len(scored) > 1 else found

    @property
    def models(self) -> list[str]:
        """Those that the row can be scored by."""
        return models_of(self.run) if self.answers else []

    @property
    def answers(self) -> bool:
        """Whether the row has anything that a model has said."""
        return next(answers_of(self.row), None) is not None and self.table.table in (*TRACES, *TO_GROUP)

    def wanted(self, name: str) -> Wanted | None:
        """How a series is worked out; None where it cannot be. Raises UserError, TooLarge for a model without room."""
        kind, _, step = name.partition(":")
        if kind == TOKENS:
            return Wanted(None, "")
        if kind == WEIGHT:
            return Wanted(None, storage.content_hash(repr(self.graph[step].settings)))
        if kind == COLUMN:
            values = self.column_values(step)
            return Wanted(values, storage.content_hash(values))
        made = current_manifest(self.run, self.graph[step].stage)
        export = str(made.facts["export"])
        samples = self.table.step if self.table.table in TRACES else "verified"
        how = (
            f"have a column computed where there is room, by a step in the config, `steps: {{{step}_logps: {{do: logps, "
            f"of: {samples}, model: {step}}}}}`, and `redi-ray run CONFIG --until {step}_logps`"
        )
        require_room(step, export, made.facts.get("parameters"), how)
        return Wanted(export, made.key)

    def column_values(self, name: str) -> list[Any]:
        """Member -> what a column says of its tokens."""
        if name in self.columns:
            return [self.columns[name]]
        if name == TOKEN_WEIGHTS:
            return list(self.row[TOKEN_WEIGHTS])
        for one in self.row.get(TOKEN_COLUMNS) or ():
            if one["name"] == name:
                return list(one["values"])
        return [self._of_sample(trace, name) for trace in self.traces()]

    def traces(self) -> list[str]:
        """The samples that a pair was made of, as its id says."""
        problem, pair = str(self.row.get("problem_id")), str(self.row.get("pair_id"))
        found = re.search(rf"({re.escape(problem)}#\d+)/({re.escape(problem)}#\d+)$", pair)
        return list(found.groups()) if found else []

    def samples(self) -> list[str]:
        """The steps whose samples a pair may have been made of."""
        step = self.graph[self.table.step]
        return [name for role, name in step.inputs.items() if self.graph[name].gives in TRACES] if self.traces() else []

    def samples_columns(self) -> list[str]:
        """Their columns of tokens."""
        return [
            name
            for samples in self.samples()
            for table in [self._table(samples)]
            if table is not None
            for name in table.beside
            if table.grain(name) == "token"
        ]

    def _table(self, samples: str) -> RowTable | None:
        try:
            return table_of(self.run, samples)
        except BrowseError:
            return None

    def _of_sample(self, trace: str, column: str) -> Any:
        for samples in self.samples():
            table = self._table(samples)
            if table is not None and column in table.beside:
                try:
                    place = find_row(table, trace, seconds=SECONDS)
                except BrowseError:
                    continue
                return column_row(table, place.shard, place.row, column, trace)
        return None

    def _parts(self, colour: str, scored: Sequence[str], answer: Answer) -> tuple[list[Part], Legend] | None:
        series = {name: found for name, found in answer.series.items() if not failed(found)}
        if TOKENS not in series or (values := values_of(colour, scored, series)) is None:
            return None
        scale, legend = scale_of(colour, scored, [one for member in values for one in member if one is not None])
        parts = []
        for number, ((name, side, _), told) in enumerate(zip(answers_of(self.row), series[TOKENS], strict=False)):
            if number >= MOST_MEMBERS:
                break
            mine = {series_name: found[number] for series_name, found in series.items() if series_name != TOKENS}
            words = words_of(mine, scored, len(told["places"]))
            turns, over = token_turns(
                told["turns"], [tuple(place) for place in told["places"]], values[number], words, scale
            )
            facts = {"tokens": f"{len(told['places']):,}"} | sums_of(mine, scored)
            if over:
                facts["shown"] = f"the last {len(told['places']) - over:,} tokens"
            parts.append(Part(name, turns, side, facts, name, over > 0, "tokens"))
        return parts, legend


def column_row(table: RowTable, shard: str, row: int, column: str, trace: str) -> Any:
    """What a column says of a row. Raises BrowseError where it is of another one."""
    from redi_ray.report.beside import said_in
    from redi_ray.report.scan import Shard

    uri = table.shard(shard).columns[column]
    found = read_rows(Shard(storage.File(uri, 0, 0)), [row], large=True)[row]
    if found[KEY] != trace:
        raise BrowseError(f"{uri}: row {row} is of {found[KEY]}, and beside it stands {trace}; make the column again")
    return said_in(found)
