"""Which problems of verified traces stand for all: the passes of a step `select` with `diverse`.

    places   one task: the ids of all problems, in the order of their keys, and where the text of each stands
    texts    per group of input shards: the texts that stand there
    fit      one task, for an embedder of words: what it learns from texts
    embed    per part of the problems: a vector for each text
    spread   one task: which problems stay, and how spread they are

Parts are cut by the problems' keys, not by the shards in which they stand, so that an embedder's batches, and with them the last
bits of the vectors, are the same under any sharding. A task that was finished is not done again. The last pass holds the vectors:
two bytes for each number of each problem, and four more while it selects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from redi_ray.config.embedders import Embedder, WordEmbedder
from redi_ray.config.selection import DiverseProblems
from redi_ray.data.curate.block import EMBEDDING, vectors_of
from redi_ray.data.curate.curate import PassRunner
from redi_ray.data.curate.embeddings import ROWS, TEXT, embedded, told
from redi_ray.data.curate.work import (
    MAX_TASKS,
    Sharded,
    cut,
    finish,
    finished,
    order_key,
    part_name,
    read_row_group,
    write_row_groups,
)
from redi_ray.data.embed.embedder import Embed, fit, start
from redi_ray.data.embed.spread import measures, select_rows
from redi_ray.data.sources.readers import DataError
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import spoken

PLACED_TEXT = pa.schema(
    [
        pa.field("place", pa.int64(), nullable=False),  # of the problem among all, by their keys
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),  # where its first trace stands
        pa.field("row", pa.int64(), nullable=False),
    ]
)
KEYED_TEXT = pa.schema([PLACED_TEXT.field("place"), *TEXT])
Measured = dict[str, dict[str, float]]
"""`selected` and `random`, as many by chance: each the measures of `redi_ray.data.embed.spread`."""


@dataclass(frozen=True, kw_only=True)
class Spreading(Sharded):
    """One selection."""

    wanted: DiverseProblems
    number: int
    """Problems that are wanted."""
    trust_remote_code: bool = False
    """Of an embedder's model."""
    least: int = ROWS
    """Problems of a part, where they are not so many that there would be more than MAX_TASKS parts."""

    def part_size(self, problems: int) -> int:
        """Problems of a part, of so many in all."""
        return max(self.least, -(-problems // MAX_TASKS))

    @property
    def embedder(self) -> Embedder:
        """The one that the settings ask for."""
        return self.wanted.embedder or WordEmbedder(name="words")

    @property
    def selected(self) -> str:
        """Where the ids of the problems that stay are written."""
        return self.work("selected.parquet")


def plan(shards: list[str], out_uri: str, wanted: DiverseProblems, number: int, trust_remote_code: bool) -> Spreading:
    """The plan of the work on these shards."""
    return Spreading(
        verified=tuple(map(storage.resolve, shards)),
        out_uri=storage.resolve(out_uri),
        borders=cut(storage.file_sizes(shards)),
        wanted=wanted,
        number=number,
        trust_remote_code=trust_remote_code,
    )


def run_passes(spreading: Spreading, run: PassRunner) -> Measured:
    """All passes; `selected` is there then. Returns how spread the selection is. Raises DataError where there is no problem."""
    (placed,) = run("places", [0])
    if not placed["problems"]:
        raise DataError("there are no traces to select problems of")
    tasks = {
        "texts": spreading.groups,
        "fit": int(isinstance(spreading.embedder, WordEmbedder)),
        "embed": placed["parts"],
    }
    for name, number in [*tasks.items(), ("spread", 1)]:
        for _ in run(name, list(range(number))):
            pass
    return dict(storage.read_json(spreading.work("measures.json")))


class Worker:
    """The work of one process."""

    def __init__(self, spreading: Spreading) -> None:
        self.spreading = spreading

    def work(self, name: str, task: int) -> Counter[str]:
        """One task of the named pass."""
        mark = self.spreading.work(name, f"{task:05d}.json")
        if (known := finished(mark)) is not None:
            return known
        return finish(mark, getattr(self, name)(task))

    def places(self, _: int) -> Counter[str]:
        """Write PLACED_TEXT, a row group for each group of shards; counts the problems and the parts that they are cut into."""
        homes: dict[str, tuple[int, int]] = {}
        for shard, uri in enumerate(self.spreading.verified):
            row = 0
            for batch in parquet.read_batches(uri, ["problem_id"]):
                for name in batch["problem_id"].to_pylist():
                    homes.setdefault(name, (shard, row))
                    row += 1
        ordered = sorted(homes, key=lambda name: (order_key(self.spreading.wanted.seed, name), name))
        found: list[list[dict[str, object]]] = [[] for _ in range(self.spreading.groups)]
        for place, name in enumerate(ordered):
            shard, row = homes[name]
            at = {"place": place, "problem_id": name, "shard": shard, "row": row}
            found[self.spreading.group_of[shard]].append(at)
        write_row_groups(self.spreading.work("places", part_name(0)), found, PLACED_TEXT)
        return Counter(problems=len(ordered), parts=-(-len(ordered) // self.spreading.part_size(len(ordered))))

    def texts(self, group: int) -> Counter[str]:
        """Write KEYED_TEXT of the group's shards, a row group for each part of the problems."""
        here = read_row_group([self.spreading.work("places", part_name(0))], group).to_pylist()
        homes = {(row["shard"], row["row"]): row for row in here}
        size = self.spreading.part_size(self._placed["problems"])
        found: list[list[dict[str, object]]] = [[] for _ in range(self._placed["parts"])]
        for shard in sorted({shard for shard, _ in homes}):
            rows = {row for at, row in homes if at == shard}
            for number, read in parquet.read_rows(self.spreading.verified[shard], rows, ["problem"]):
                one = homes[shard, number]
                text = {"place": one["place"], "problem_id": one["problem_id"], "problem": spoken(read["problem"])}
                found[one["place"] // size].append(text)
        write_row_groups(self.spreading.work("texts", part_name(group)), found, KEYED_TEXT)
        return Counter()

    def fit(self, _: int) -> Counter[str]:
        """Write what an embedder of words learns from the problems whose keys come first."""
        settings = self.spreading.embedder
        assert isinstance(settings, WordEmbedder)
        texts: list[str] = []
        for part in range(self._placed["parts"]):
            if len(texts) < settings.fit_on:
                texts += [told(text) for text in self._part(part)["problem"].to_pylist()]
        storage.write_bytes(self._fitted, fit(texts[: settings.fit_on], settings))
        return Counter()

    def embed(self, part: int) -> Counter[str]:
        """Write the vectors of a part's texts, in the order of their places: `problem_id` and EMBEDDING."""
        parquet.write_table(self.spreading.work("embed", part_name(part)), embedded(self._embed, self._part(part)))
        return Counter()

    def spread(self, _: int) -> Counter[str]:
        """Write `selected`, the ids of the problems that stay, and the measures."""
        shards = self.spreading.work_files("embed", self._placed["parts"])
        table = pa.concat_tables(self._vectors(shards))
        vectors, wanted = vectors_of(table), self.spreading.wanted
        selected = select_rows(vectors, self.spreading.number, wanted.by, wanted.seed)
        control = select_rows(vectors, self.spreading.number, "random")
        both = {"selected": measures(vectors, selected), "random": measures(vectors, control)}
        storage.write_json(self.spreading.work("measures.json"), both)
        parquet.write_table(self.spreading.selected, table.select(["problem_id"]).take(pa.array(selected)))
        return Counter(selected=len(selected))

    @cached_property
    def _placed(self) -> Counter[str]:
        known = finished(self.spreading.work("places", "00000.json"))
        assert known is not None, "the first pass is over"
        return known

    @property
    def _fitted(self) -> str:
        return self.spreading.work("embedder.pickle")

    @cached_property
    def _embed(self) -> Embed:
        settings = self.spreading.embedder
        fitted = storage.read_bytes(self._fitted) if isinstance(settings, WordEmbedder) else None
        return start(settings, fitted, trust_remote_code=self.spreading.trust_remote_code)

    def _part(self, part: int) -> pa.Table:
        """KEYED_TEXT of a part, in the order of the places."""
        return read_row_group(self.spreading.work_files("texts", self.spreading.groups), part).sort_by("place")

    @staticmethod
    def _vectors(shards: list[str]) -> Iterator[pa.Table]:
        for table in parquet.read_tables(shards):
            yield table.select(["problem_id", EMBEDDING])


def selected_of(uri: str) -> set[str]:
    """The problems of `Spreading.selected`."""
    return {name for batch in parquet.read_batches(uri, ["problem_id"]) for name in batch["problem_id"].to_pylist()}
