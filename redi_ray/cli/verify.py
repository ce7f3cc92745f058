"""`redi-ray verify --traces`: options -> settings, the call, and the table of what came out."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from redi_ray.cli.entry import writing
from redi_ray.cluster.runtime import ray_connection, setup_logging
from redi_ray.config.answers import VERIFIER_NAME, VerifySettings
from redi_ray.config.readable import readable_errors
from redi_ray.config.resources import RaySettings
from redi_ray.config.step_sections import VERIFY
from redi_ray.config.trace_files import REQUIRED, TraceColumns, check_votes
from redi_ray.data.verify.files import prepare, verify_files
from redi_ray.errors import UserError
from redi_ray.stages.bars import terminal_bar
from redi_ray.store.manifests import Manifest


class OptionError(UserError):
    """An option of the command line is wrong."""


def read_columns(given: list[str]) -> TraceColumns:
    """`["answer=gold", ...]` as columns; `trace_id=` is none. Raises OptionError naming the columns that can be set."""
    known = [field.name for field in fields(TraceColumns) if field.name != "others"]
    found: dict[str, Any] = {}
    others: dict[str, str] = {}
    for item in given:
        name, equals, column = item.partition("=")
        verifier = name.removeprefix("votes.")
        if column and verifier != name and VERIFIER_NAME.fullmatch(verifier) and verifier not in known:
            others[verifier] = column
            continue
        if name not in known or not equals or (not column and name in REQUIRED):
            raise OptionError(
                f"--column {item}: write NAME=COLUMN, where NAME is one of {', '.join(known)}, or votes.VERIFIER"
            )
        found[name] = column or None
    return TraceColumns(**found, others=others)


def read_settings(options: dict[str, Any], columns: TraceColumns) -> VerifySettings:
    """Settings from the options that were given (None: not given). Raises OptionError."""
    given = {name: value for name, value in options.items() if value is not None}
    answers = {name: given.pop(name) for name in ("extract", "gold_extract") if name in given}
    try:
        settings = VERIFY.validate_python({"answers": answers, **given})
        check_votes(settings, columns)
    except ValidationError as error:
        raise OptionError(readable_errors(error, VERIFY.json_schema())) from error
    except ValueError as error:
        raise OptionError(str(error)) from error
    return settings


def verify_trace_files(
    traces: list[str], out: str, columns: TraceColumns, settings: VerifySettings, workers: int | None
) -> Manifest:
    """Verify the files into `out`, on a local Ray or the one that RAY_ADDRESS names; what is there is kept.

    Raises what `writing`, `prepare` and `verify_files` raise.
    """
    setup_logging()
    workers = workers or os.cpu_count() or 1
    with writing(out):
        work = prepare(traces, out, columns, settings)
        if found := work.published():
            return found
        with ray_connection(RaySettings(num_cpus=max(4, workers * settings.processes + 1))):
            with terminal_bar("verify", None, "traces") as bar:
                return verify_files(work, workers=workers, on_progress=bar.update)


def print_verdicts(manifest: Manifest, console: Console | None = None) -> None:
    """The verdicts with their shares, the rejects with their reasons, how it was decided, and where it lies."""
    console = console or Console()
    total, facts = manifest.counts["out"], manifest.facts
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    table.add_column("verdict", "total", no_wrap=True)
    table.add_column("traces", f"{total:,}", justify="right", no_wrap=True)
    table.add_column("share, %", "", justify="right", no_wrap=True)
    for verdict, count in facts["verdicts"].items():
        table.add_row(verdict, f"{count:,}", f"{100 * count / total:.1f}")
    console.print(table)

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for reason, count in manifest.rejected.items():
        tell(f"rejected: {count:,} {reason}")
    tell(f"{manifest.counts['in']:,} rows of {facts['files']:,} files in, all accounted for")
    for name, counted in facts["agreement"].items():
        share = 100 * counted["agree"] / counted["compared"]
        tell(f"math_verify and {name} agree on {counted['agree']:,} of {counted['compared']:,} ({share:.1f}%)")
    did = facts["this_run"]
    rate = did["rows"] / manifest.seconds if manifest.seconds else 0.0
    tell(
        f"{did['rows']:,} rows verified in {manifest.seconds:.1f} s ({rate:,.0f}/s): {did['quick']:,} by the fast path, "
        f"{did['cached']:,} seen before, {did['compared']:,} by Math-Verify"
        + (f", {did['tested']:,} by tests" if did.get("tested") else "")
    )
    tell(f"verdicts: {manifest.table('verdicts')}")
    if manifest.rejected:
        tell(f"rejects: {manifest.table('rejects')}")
