"""Protects what a run remembers of a command that ended badly: kept, read back, and gone after a good end."""

from __future__ import annotations

from pathlib import Path

import pytest

from redi_ray.cli.entry import remembered
from redi_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_PREEMPTED, Preempted, UserError
from redi_ray.store.ending import FILE, read_ending
from redi_ray.store.lock import LockLost
from redi_ray.store.storage import write_bytes


@pytest.mark.parametrize(
    ("kind", "told", "code"),
    [
        (UserError, ["mend sft.train"], EXIT_BAD_INPUT),
        (ZeroDivisionError, ["a bug"], EXIT_FAILED),
        (Preempted, ["SIGTERM"], EXIT_PREEMPTED),
        (KeyboardInterrupt, [], EXIT_PREEMPTED),
    ],
)
def test_an_error_is_kept_until_a_good_end(root: str, kind: type[BaseException], told: list[str], code: int):
    error = kind(*told)
    error.add_note("at step sft")
    with pytest.raises(kind), remembered(root):
        raise error
    found = read_ending(root)
    assert found is not None
    assert (found.exit_code, found.notes, found.kind) == (code, ("at step sft",), kind.__name__)
    assert found.error == (str(error) or kind.__name__)
    with remembered(root):
        pass
    assert read_ending(root) is None


def test_a_run_that_another_driver_took_is_left_alone(tmp_path: Path):
    with pytest.raises(LockLost), remembered(str(tmp_path)):
        raise LockLost("taken over")
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"error": 3, "unknown": 1}'])
def test_a_damaged_file_is_none(tmp_path: Path, content: bytes):
    write_bytes(str(tmp_path / FILE), content)
    assert read_ending(str(tmp_path)) is None


def test_a_folder_that_cannot_be_written_does_not_hide_the_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZeroDivisionError), remembered(str(tmp_path / "file")):
        raise ZeroDivisionError
