"""The report's page of traces: some of each verdict, with what led to it, filtered in the browser by a few lines of script.

The page is bounded (PAGE_BYTES) however large the corpus is, needs no network, and shows text that models wrote: all of
it is escaped, and the content security policy allows the page's own script by its hash and nothing else. Formulas stay as
they were written; a library that renders them would have to be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any
from zlib import crc32

from jinja2 import Environment
from markupsafe import Markup, escape

from redi_ray.report.beside import COLUMNS as BESIDE
from redi_ray.report.beside import Shard, is_spans, said_in
from redi_ray.report.browse import details
from redi_ray.report.marks import Piece, shown_turns, without_middles
from redi_ray.report.token_values import drawn
from redi_ray.schemas import Verdict, turns_of
from redi_ray.store.parquet import read_rows, read_schema, read_tables
from redi_ray.store.storage import join, write_bytes
from redi_ray.text.dialogue import spoken

PAGE_BYTES = 1_900_000
"""Traces are added up to this size of the page."""
PER_VERDICT = 40
SHARDS_READ = 64
"""At most so many shards, evenly spread, are sampled from."""
MOST_CHARS = 6_000
"""Of a long text, a third of its beginning and the rest of its end, are shown."""
ENTRY_BYTES, PIECE_BYTES = 1_200, 120
"""Markup around one trace, and around a piece of its text."""
COLUMNS = [
    *("trace_id", "problem_id", "problem", "answer", "source", "completion", "finish_reason", "num_tokens", "model"),
    *("verdict", "verdict_by", "extracted_answer", "turns", "tests"),
]
SCRIPT = """
const form = document.querySelector("form");
const traces = [...document.querySelectorAll("details.trace")];
function show() {
  const wanted = Object.fromEntries(new FormData(form));
  const text = wanted.text.toLowerCase();
  let shown = 0;
  for (const trace of traces) {
    const length = Number(trace.dataset.length);
    trace.hidden = (wanted.verdict && trace.dataset.verdict !== wanted.verdict)
      || (wanted.source && trace.dataset.source !== wanted.source)
      || (wanted.min && length < Number(wanted.min))
      || (wanted.max && length > Number(wanted.max))
      || (text && !trace.textContent.toLowerCase().includes(text));
    shown += !trace.hidden;
  }
  document.querySelector("output").textContent = `${shown} of ${traces.length} shown`;
}
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(show));
show();
"""


def write_trace_page(
    target: str, shards: Sequence[Shard], counts: dict[str, int], environment: Environment, name: str, run: str
) -> str | None:
    """Write `<target>/traces.html` with a sample of the verified traces in `shards`; its URI, or None if there is none.

    What columns say of a trace is shown in it.
    counts: verdict -> traces of the whole run. environment: where `traces.html.j2` is found, with autoescape on. run: its
    folder.
    """
    traces = list(within_budget(shortened(row) for row in drawn(sample_traces(shards), run)))
    if not traces:
        return None
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    shown = Counter(trace["verdict"] for trace in traces)
    html = environment.get_template("traces.html.j2").render(
        name=name,
        traces=traces,
        judged=any(name for trace in traces for name in trace["told"]),
        counts={verdict: (counts.get(verdict, 0), shown[verdict]) for verdict in map(str, Verdict) if shown[verdict]},
        sources=sorted({str(trace["source"]) for trace in traces if trace["source"] is not None}),
        script=Markup(SCRIPT),
        script_hash=digest,
        created=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )
    uri = join(target, "traces.html")
    write_bytes(uri, html.encode("utf-8", "replace"))
    return uri


def sample_traces(shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Up to PER_VERDICT traces of each verdict, in turn, always the same ones: those whose ids hash lowest."""
    chosen = shards[:: -(-len(shards) // SHARDS_READ)] if shards else []
    lowest: dict[str, list[tuple[int, int, int]]] = {}
    for number, table in enumerate(read_tables([uri for uri, _ in chosen], ["trace_id", "verdict"])):
        ids, verdicts = table["trace_id"].to_pylist(), table["verdict"].to_pylist()
        for row, (trace_id, verdict) in enumerate(zip(ids, verdicts, strict=True)):
            heap = lowest.setdefault(verdict, [])
            place = (-crc32(trace_id.encode()), number, row)
            if len(heap) < PER_VERDICT:
                heapq.heappush(heap, place)
            else:
                heapq.heappushpop(heap, place)
    by_verdict = [sorted(lowest[verdict], reverse=True) for verdict in map(str, Verdict) if verdict in lowest]
    order = [place for place in chain.from_iterable(zip_longest(*by_verdict)) if place is not None]
    return list(_fetch(chosen, order))


def _fetch(shards: Sequence[Shard], places: list[tuple[int, int, int]]) -> Iterator[dict[str, Any]]:
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for number in sorted({number for _, number, _ in places}):
        rows = [row for _, shard, row in places if shard == number]
        uri, columns = shards[number]
        there = set(read_schema(uri).names)  # those of earlier versions have fewer
        found |= {
            (number, row): value for row, value in read_rows(uri, rows, [name for name in COLUMNS if name in there])
        }
        for name, column in columns.items():
            for row, value in read_rows(column, rows):
                found[number, row].setdefault(BESIDE, {})[name] = said_in(value)
    for _, number, row in places:
        yield found[number, row]


def shortened(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the page shows it: long texts without their middle, the facts about it in words."""
    row = {**row, "problem": spoken(row["problem"])}
    cut = {name: _cut(row[name]) for name in ("problem", "answer", "extracted_answer")}
    columns = row.get(BESIDE, {})
    spans = {name: said for name, said in columns.items() if is_spans(said)}
    told = {name: shown_turns(turns_of(row), said, 1, MOST_CHARS) for name, said in (spans or {"": None}).items()}
    more = {
        f"column {name}": str(said) for name, said in columns.items() if said is not None and not isinstance(said, list)
    }
    return {**row, **cut, "length": len(row["completion"]), "details": details(row) | more, "told": told}


def _cut(text: str | None) -> str | None:
    return None if text is None else without_middles([Piece(text)], MOST_CHARS)[0].text


def within_budget(traces: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Traces until the page is full, measured as they will be written."""
    size = 0
    for trace in traces:
        pieces = [piece for told in trace["told"].values() for _, pieces in told for piece in pieces]
        texts = [trace[name] for name in ("problem", "answer", "extracted_answer")] + [piece.text for piece in pieces]
        size += ENTRY_BYTES + PIECE_BYTES * len(pieces)
        size += sum(len(escape(text or "").encode("utf-8", "replace")) for text in texts)
        if size > PAGE_BYTES:
            return
        yield trace
