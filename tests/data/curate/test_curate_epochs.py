"""A problem that a mixture has in a second epoch is no duplicate of itself, and goes where the first one goes."""

from __future__ import annotations

import pyarrow as pa

from redi_ray.data.curate.select import AGAIN, drop_with_first, first_epochs
from redi_ray.data.curate.work import Drops


def test_later_epochs_follow_the_first() -> None:
    ids = ["a/1", "a/1~again2", "a/1~again3", "a/2", "a/2~again2", "a/3~0123456789012345", "b/x~again"]
    first, again = first_epochs(pa.table({"problem_id": ids}))
    assert first["problem_id"].to_pylist() == ["a/1", "a/2", "a/3~0123456789012345", "b/x~again"]
    drops = Drops()
    drops.add("problem", "duplicate", "a/1", detail="of a/2")
    drop_with_first(again, drops)
    assert [(row["problem_id"], row["reason"]) for row in drops.rows[1:]] == [
        ("a/1~again2", AGAIN),
        ("a/1~again3", AGAIN),
    ]
    assert drops.counts == {"problem/duplicate": 1, f"problem/{AGAIN}": 2}
