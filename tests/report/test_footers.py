"""Footers that are kept: a file that was written again is read anew, and many files take no more memory than some."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.report.footers import FOOTERS, Footers
from redi_ray.report.scan import opened
from redi_ray.store import storage
from redi_ray.store.storage import File


def test_a_file_that_was_written_again(tmp_path: Path):
    """Else its rows would be looked for where those of the old one were."""
    path = tmp_path / "part.parquet"
    for rows in (3, 50_000):
        pq.write_table(pa.table({"value": list(range(rows))}), path)
        (file,) = storage.list_infos(str(tmp_path), ".parquet")
        for _ in range(2):
            with opened(file) as found:
                assert found.read(["value"])["value"].to_pylist() == list(range(rows))
        kept = FOOTERS.get(file)
        assert kept is not None
        assert kept.num_rows == rows


def test_what_was_kept_longest_goes(tmp_path: Path):
    pq.write_table(pa.table({"value": [1]}), tmp_path / "part.parquet")
    footer = pq.read_metadata(tmp_path / "part.parquet")
    footers, files = Footers(most=3 * footer.serialized_size), [File(f"{number}", 1, 1) for number in range(5)]
    for file in files:
        footers.keep(file, footer)
        footers.keep(file, footer)
    assert [footers.get(file) is not None for file in files] == [False, False, True, True, True]
