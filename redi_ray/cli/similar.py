"""`redi-ray similar`: the pairs of problems next to the threshold of `duplicates.semantic`, to see whether it fits."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from redi_ray.errors import UserError
from redi_ray.report.browse import graph_of_run, run_uri_of
from redi_ray.report.row_tables import rows_of
from redi_ray.store import parquet

SIMILAR = "similar"


def show_similar(target: str, *, step: str, limit: int, as_json: bool, console: Console | None = None) -> int:
    """Print up to `limit` pairs on either side of the threshold, the most alike first; how many there were.

    Raises UserError where the step has no such table.
    """
    run = run_uri_of(target)
    table = rows_of(run, graph_of_run(run), step)
    if SIMILAR not in table.tables:
        raise UserError(
            f"step {step} has no pairs to show: they are written under curate.duplicates.semantic, see the guide on curation"
        )
    shards = rows_of(run, graph_of_run(run), step, SIMILAR).shards
    pairs = [row for shard in shards for one in parquet.read_tables([shard.uri]) for row in one.to_pylist()]
    gone, stayed = ([row for row in pairs if row["dropped"] is side] for side in (True, False))
    shown = gone[-limit:] + stayed[:limit]
    console = console or Console()
    for row in shown:
        console.print(json.dumps(row) if as_json else described(row), soft_wrap=True, markup=False)
    return len(shown)


def described(row: dict[str, Any]) -> Text:
    """A pair in words."""
    told = "dropped" if row["dropped"] else "both stay"
    text = Text(f"{row['similarity']:.3f}  {told}\n", style="red" if row["dropped"] else "green")
    for name, problem in ((row["problem_id"], row["problem"]), (row["other_id"], row["other"])):
        text.append(f"  {name}: ", style="bold not red not green").append(
            f"{' '.join(problem.split())}\n", style="default"
        )
    return text
