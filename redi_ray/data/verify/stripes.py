"""The task behind `redi_ray.data.verify.files`: one file's rows -> verdicts and rejects, segment by segment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import VerifySettings
from redi_ray.config.trace_files import TraceColumns
from redi_ray.data.sources.readers import DataError, Row
from redi_ray.data.sources.shards import reject_row
from redi_ray.data.sources.trace_rows import RowRefused, Stripe, parse_trace, stripe_rows
from redi_ray.data.verify.traces import BATCH_BYTES, verify_table
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import REJECT, TRACE, VERDICT, with_tests
from redi_ray.store import parquet, storage

COUNTED = ("quick", "cached", "compared", "tested")
"""How comparisons were decided (`PathCounts`)."""


class VerifyStripes:
    """The actor behind `verify_files`: owns a verifier, hence its worker processes and its cache."""

    def __init__(self, out_uri: str, columns: TraceColumns, settings: VerifySettings) -> None:
        self.out_uri, self.columns, self.settings = out_uri, columns, settings
        self.verifier = AnswerVerifier(settings)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """Stripes {task: [n]} -> a row of counts for each segment as it is done, and one at the end of the file."""
        for task in batch["task"]:
            number, stripe = json.loads(str(task))
            for row in self._run(number, Stripe(**{**stripe, "done": frozenset(stripe["done"])})):
                yield {name: [value] for name, value in row.items()}

    def _run(self, number: int, stripe: Stripe) -> Iterator[dict[str, Any]]:
        nothing = {"file": number, "rows": 0, **dict.fromkeys(COUNTED, 0), "file_rows": -1, "failure": ""}
        total = 0
        try:
            for segment, group in groupby(stripe_rows(stripe, self.columns), key=lambda item: item[0]):
                rows = (row for _, row in group)
                if not stripe.wants_segment(segment):
                    total += sum(1 for _ in rows)
                    continue
                before = asdict(self.verifier.counts)
                count = self._verify(f"part-{number:05d}-{segment:05d}.parquet", rows)
                after = asdict(self.verifier.counts)
                total += count
                yield {**nothing, "rows": count, **{name: after[name] - before[name] for name in COUNTED}}
            yield {**nothing, "file_rows": total}
        except (DataError, OSError, pa.ArrowException) as error:
            told = isinstance(error, DataError | storage.StorageError)
            failure = str(error) if told else f"{stripe.uri}: {type(error).__name__}: {error}"
            yield {**nothing, "failure": failure}

    def _verify(self, name: str, rows: Iterable[Row]) -> int:
        """Verify a segment and write its rejects, then its verdicts; how many rows it had."""
        rejects: list[dict[str, str]] = []
        schema = VERDICT if self.columns.tests is None or self.settings.tests is None else with_tests(VERDICT)
        verdicts = [schema.empty_table()]
        count = 0
        for batch in self._batches(rows, rejects):
            tests = [row.get("tests") for row in batch] if schema is not VERDICT else None
            table = verify_table(pa.Table.from_pylist(batch, schema=TRACE), self.verifier, self.settings, tests)
            verdicts.append(table.select(schema.names))
            count += table.num_rows
        if rejects:
            table = pa.Table.from_pylist(rejects, schema=REJECT)
            parquet.write_table(storage.join(self.out_uri, "rejects", name), table)
        parquet.write_table(storage.join(self.out_uri, "verdicts", name), pa.concat_tables(verdicts))
        return count + len(rejects)

    def _batches(self, rows: Iterable[Row], rejects: list[dict[str, str]]) -> Iterator[list[dict[str, Any]]]:
        batch: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            try:
                trace = parse_trace(row, self.columns)
            except RowRefused as refused:
                rejects.append(reject_row(row.where, refused.reason, str(refused), row.raw or row.value))
                continue
            batch.append(trace)
            size += len(trace["completion"])
            if len(batch) >= self.settings.batch_rows or size >= self.settings.processes * BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def __del__(self) -> None:
        if hasattr(self, "verifier"):
            self.verifier.close()
