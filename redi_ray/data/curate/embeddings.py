"""Passes `texts`, `fit` and `embed`: the embeddings of the problems that are left, for blocks that go by them.

    texts   per group of input shards: the texts of the problems at home there
    fit     one task, for an embedder of words: what it learns from texts
    embed   per group again: a vector for each text

Each group's vectors lie in a file with their ids; `select` puts them beside the other things that it knows of a problem. One
process then holds two bytes for each dimension of each problem.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.config.embedders import Embedder, WordEmbedder
from redi_ray.data.curate.block import EMBEDDING
from redi_ray.data.curate.choice import CHOICE
from redi_ray.data.curate.work import Curation, finish, finished, order_key, part_name, read_row_group
from redi_ray.data.embed.embedder import Embed, Vectors, fit, start
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import spoken
from redi_ray.text.wording import FIGURE

TEXT = pa.schema(
    [pa.field("problem_id", pa.string(), nullable=False), pa.field("problem", pa.string(), nullable=False)]
)
ROWS = 4096
"""Texts embedded at a time."""


def embedder_of(curation: Curation) -> Embedder:
    """The one that the config asks for."""
    return curation.config.embedder or WordEmbedder(name="words")


class Embedding:
    """The work of one process."""

    def __init__(self, curation: Curation) -> None:
        self.curation, self.settings = curation, embedder_of(curation)

    @property
    def fitted(self) -> str:
        return self.curation.work("embedder.pickle")

    def work(self, name: str, task: int) -> Counter[str]:
        """One task of the named pass."""
        if name == "texts":
            return self.texts(task)
        if name == "fit":
            return self.fit()
        assert name == "embed", name
        return self.embed(task)

    def texts(self, group: int) -> Counter[str]:
        """Write the texts of the group's problems, TEXT, in the order of their ids."""
        mark = self.curation.work("texts", f"{group:05d}.json")
        if (known := finished(mark)) is not None:
            return known
        choices = read_row_group(self.curation.work_files("choice", self.curation.partitions), group)
        homes = {
            (row["home"]["shard"], row["home"]["row"]): row["problem_id"]
            for row in choices.select(CHOICE.names[:2]).to_pylist()
        }
        found = []
        for shard in sorted({shard for shard, _ in homes}):
            rows = {row for at, row in homes if at == shard}
            for number, row in parquet.read_rows(self.curation.verified[shard], rows, ["problem"]):
                found.append({"problem_id": homes[shard, number], "problem": spoken(row["problem"])})
        table = pa.Table.from_pylist(sorted(found, key=lambda row: row["problem_id"]), schema=TEXT)
        parquet.write_table(self.curation.work("texts", part_name(group)), table)
        return finish(mark, Counter())

    def fit(self) -> Counter[str]:
        """Write what an embedder of words learns from the problems whose keys come first."""
        mark = self.curation.work("fitted.json")
        if (known := finished(mark)) is not None:
            return known
        assert isinstance(self.settings, WordEmbedder)
        seed = self.curation.config.seed
        keyed = ((order_key(seed, name), name) for name, _ in read_texts(self.curation))
        wanted = set(heapq.nsmallest(self.settings.fit_on, keyed))
        texts = {}
        for name, text in read_texts(self.curation):
            if (key := (order_key(seed, name), name)) in wanted:
                texts[key] = told(text)
        if texts:
            storage.write_bytes(self.fitted, fit([texts[key] for key in sorted(texts)], self.settings))
        return finish(mark, Counter())

    @cached_property
    def _embed(self) -> Embed:
        fitted = storage.read_bytes(self.fitted) if isinstance(self.settings, WordEmbedder) else None
        return start(self.settings, fitted, trust_remote_code=self.curation.trust_remote_code)

    def embed(self, group: int) -> Counter[str]:
        """Write the vectors of the group's texts: `problem_id` and EMBEDDING."""
        mark = self.curation.work("embedded", f"{group:05d}.json")
        if (known := finished(mark)) is not None:
            return known
        texts = pa.concat_tables(parquet.read_tables([self.curation.work("texts", part_name(group))]))
        if texts.num_rows:
            parquet.write_table(self.curation.work("embedded", part_name(group)), embedded(self._embed, texts))
        return finish(mark, Counter())


def embedded(embed: Embed, texts: pa.Table) -> pa.Table:
    """`problem_id` and EMBEDDING of rows of TEXT, of which there must be some."""
    parts = []
    for begin in range(0, texts.num_rows, ROWS):
        some = texts.slice(begin, ROWS)
        vectors = column_of(embed([told(text) for text in some["problem"].to_pylist()]))
        parts.append(pa.table({"problem_id": some["problem_id"].combine_chunks(), EMBEDDING: vectors}))
    return pa.concat_tables(parts)


def told(problem: str) -> str:
    """What is embedded of a problem: without figures drawn in code, whose likeness says nothing."""
    return FIGURE.sub(" ", problem)


def column_of(vectors: Vectors) -> pa.FixedSizeListArray:
    """Vectors as a column of float16."""
    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def with_embeddings(curation: Curation, table: pa.Table) -> pa.Table:
    """SURVIVOR with the column EMBEDDING."""
    shards = [uri for uri in curation.work_files("embedded", curation.groups) if storage.exists(uri)]
    if not shards:  # no problem is left
        return table.append_column(EMBEDDING, pa.nulls(0, pa.list_(pa.float16(), 1)))
    found = pa.concat_tables(parquet.read_tables(shards))
    at = pc.index_in(table["problem_id"], value_set=found["problem_id"].combine_chunks())
    return table.append_column(EMBEDDING, found[EMBEDDING].combine_chunks().take(at.combine_chunks()))


def read_texts(curation: Curation) -> Iterator[tuple[str, str]]:
    """(id, text) of every problem that is left, a few rows in memory at a time."""
    for shard in curation.work_files("texts", curation.groups):
        for batch in parquet.read_batches(shard, TEXT.names):
            yield from zip(*(batch[name].to_pylist() for name in TEXT.names), strict=True)


def with_texts(curation: Curation, pairs: pa.Table) -> pa.Table:
    """A few pairs of `problem_id` and `other_id` with the texts `problem` and `other`."""
    wanted = {*pairs["problem_id"].to_pylist(), *pairs["other_id"].to_pylist()}
    texts = {name: text for name, text in read_texts(curation) if name in wanted}
    for column, ids in (("problem", "problem_id"), ("other", "other_id")):
        pairs = pairs.append_column(column, pa.array([texts[name] for name in pairs[ids].to_pylist()], pa.string()))
    return pairs
