"""What a query that a model writes finds in a corpus by BM25, as a reward (Rec-R1, arXiv 2503.24289).

The corpus is indexed once, in a task of its own, and every task reads that index. A sample's `answer` names what should be found:
an id, or a JSON list of ids.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from redi_ray.config.scorers import RetrievalScorer
from redi_ray.config.worlds import QuerySource
from redi_ray.data.score.imported import LOOKED_AT
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.data.sources.built_in import documents_of
from redi_ray.data.sources.folders import expand_paths, short_names
from redi_ray.data.sources.readers import DataError, Row, file_rows
from redi_ray.data.sources.rows import lookup
from redi_ray.data.sources.shards import RejectWriter
from redi_ray.data.sources.values import read_id
from redi_ray.schemas import LABELLED_SCORE
from redi_ray.store import storage
from redi_ray.store.contents import content_of
from redi_ray.text.retrieval import ndcg, query_reward, read_query, recall, reciprocal_rank

if TYPE_CHECKING:
    from bm25s import BM25  # loads scipy

WORD = re.compile(r"[^\W_]+")
IDS = "ids.json"
FOUND, NOTHING_FOUND, BAD_FORMAT, NOTHING_WANTED = "found", "nothing_found", "bad_format", "nothing_wanted"
"""What became of a sample's query; the last where its answer names nothing that should be found."""
TOLD = "the corpus of a step"
"""What messages call the files where they do not know whose they are."""


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits, without English stop words (Lucene's)."""
    from bm25s.stopwords import STOPWORDS_EN

    return [word for word in WORD.findall(text.lower()) if word not in STOPWORDS_EN]


class Index:
    """A corpus that is searched."""

    def __init__(self, ids: list[str], model: BM25 | None) -> None:
        """model: None where no document has a word."""
        self.ids, self.model = ids, model

    @classmethod
    def build(cls, documents: Iterator[tuple[str, str]], k1: float, b: float) -> Index:
        """Of (id, text) pairs; Lucene's form of BM25."""
        from bm25s import BM25

        ids, texts = [], []
        for name, text in documents:
            ids.append(name)
            texts.append(words(text))
        if not any(texts):
            return cls(ids, None)
        model = BM25(method="lucene", k1=k1, b=b)
        model.index(texts, show_progress=False)
        return cls(ids, model)

    def search(self, query: str, k: int) -> list[str]:
        """Ids of at most `k` documents that share a word with the query, best first, of equal ones the earlier in the corpus."""
        assert self.model is not None, "a corpus without words is not searched"
        known = [word for word in words(query) if word in self.model.vocab_dict]
        if not known:
            return []
        scores = self.model.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:k]
        return [self.ids[place] for place in best if scores[place] > 0]

    def save(self, uri: str) -> None:
        """To a folder, local or remote."""
        assert self.model is not None, "a corpus without words is not kept"
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(folder, show_progress=False)
            (Path(folder) / IDS).write_text(json.dumps(self.ids))
            storage.upload(folder, uri)

    @classmethod
    def load(cls, uri: str) -> Index:
        """What `save` wrote."""
        from bm25s import BM25

        with storage.at_hand(uri) as folder:
            return cls(json.loads((folder / IDS).read_text()), BM25.load(folder))


def prepare(settings: RetrievalScorer, asked: Asked) -> dict[str, Any]:
    """Write `<work>/index`; what the corpus held. Rows without id or text go to `<work>/rejects`, with their reason.

    Raises DataError where no document can be used, or an id is given twice.
    """
    if not settings.corpus:
        assert isinstance(asked.source, QuerySource), asked.source
        index = Index.build(iter(documents_of(asked.source)), settings.k1, settings.b)
        index.save(storage.join(asked.work, "index"))
        return {"corpus": {"documents": len(index.ids), "rejected": {}}}
    rejects = RejectWriter(storage.join(asked.work, "rejects"))
    index = Index.build(_documents(settings, rejects), settings.k1, settings.b)
    rejects.flush()
    if not index.ids:
        first = "".join(f"\n  {reason}: {told}" for reason, told in rejects.first.items())
        raise DataError(f"{', '.join(settings.corpus)}: no document has an id and a text{first}")
    if index.model is None:
        raise DataError(
            f"{', '.join(settings.corpus)}: no document has a word to search for; English stop words are none"
        )
    if len(set(index.ids)) < len(index.ids):
        seen: set[str] = set()
        twice = next(name for name in index.ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DataError(f"{', '.join(settings.corpus)}: {twice} is the id of several documents; ids must be unique")
    index.save(storage.join(asked.work, "index"))
    return {"corpus": {"documents": len(index.ids), "rejected": dict(rejects.reasons)}}


def look(settings: RetrievalScorer, where: str) -> None:
    """Raise DataError where the corpus is not there, or none of its first rows has an id and a text."""
    if not settings.corpus:
        return  # the built-in world's, which is always there
    first, seen = "", 0
    for row in islice(_files(settings, f"{where}.corpus"), LOOKED_AT):
        seen += 1
        found = _document(settings, row)
        if isinstance(found, Document):
            return
        first = first or f"{row.where}: {found.reason}, {found.detail}"
    raise DataError(f"{where}: none of the first {seen} rows has an id and a text; {first}")


def _files(settings: RetrievalScorer, told: str = TOLD) -> Iterator[Row]:
    uris = expand_paths(settings.corpus, told)
    for uri, name in zip(uris, short_names(uris), strict=True):
        yield from file_rows(uri, name=name)


class Document(NamedTuple):
    """What is searched, and what it is called."""

    key: str
    text: str


class Unfit(NamedTuple):
    """Why a row is no document."""

    reason: str
    detail: str


def _documents(settings: RetrievalScorer, rejects: RejectWriter) -> Iterator[Document]:
    for row in _files(settings):
        found = _document(settings, row)
        if isinstance(found, Document):
            yield found
        else:
            rejects.add(row.where, *found, row.raw if row.value is None else row.value)


def _document(settings: RetrievalScorer, row: Row) -> Document | Unfit:
    if row.value is None:
        return Unfit("unreadable_row", row.error)
    key, text = read_id(lookup(row.value, settings.id)), lookup(row.value, settings.text)
    there = ", ".join(row.value)
    if key is None:
        return Unfit("no_id", f"column `{settings.id}`; the row has {there}")
    if not isinstance(text, str) or not text.strip():
        return Unfit("no_text", f"column `{settings.text}`; the row has {there}")
    return Document(key, text)


def wanted_ids(answer: str | None) -> list[str]:
    """The ids that a sample's answer names: a JSON list of them, or one, as it stands (`142.0` and `1e5` are ids, too)."""
    try:
        value = json.loads(answer or "")
    except (ValueError, RecursionError):
        value = None
    listed = value if isinstance(value, list) else [value if isinstance(value, str) else answer]
    return [key for key in map(read_id, listed) if key is not None]


def start(settings: RetrievalScorer, asked: Asked) -> Values:
    """A reward for each answer; null where the sample names nothing that should be found."""
    index = Index.load(storage.join(asked.work, "index"))

    def gain(query: str, relevant: list[str]) -> float:
        found = index.search(query, settings.k)
        if settings.measure == "ndcg":
            return ndcg(found, relevant, settings.k, settings.distinct)
        return recall(found, relevant, settings.k) if settings.measure == "recall" else reciprocal_rank(found, relevant)

    def reward(output: str, relevant: list[str]) -> dict[str, Any]:
        if not relevant:
            return {"value": None, "label": NOTHING_WANTED}
        query = read_query(output) if settings.format else output
        if query is None:
            return {"value": settings.bad_format, "label": BAD_FORMAT}
        found = gain(query, relevant)
        value = query_reward(output, found, settings.bad_format, settings.bonus) if settings.format else found
        return {"value": value, "label": FOUND if found else NOTHING_FOUND}

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        columns = (rows[name].to_pylist() for name in ("completion", "answer"))
        return [reward(output, wanted_ids(answer)) for output, answer in zip(*columns, strict=True)]

    return values


RETRIEVAL = Scorer(
    ("completion", "answer"),
    start,
    prepare,
    outside=lambda settings: (
        [content_of(path) for path in expand_paths(settings.corpus, TOLD)] if settings.corpus else []
    ),
    schema=lambda settings: LABELLED_SCORE,
    look=look,
)
