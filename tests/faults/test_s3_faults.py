"""What S3 and networks do to requests: what may pass is got over with equal bytes, what does not ends soon and clearly."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from measured import LIMITS, Measured
from proxy import FaultProxy, Kind
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED
from redi_ray.store import parquet, storage
from redi_ray.store.lock import LockLost, RunLock, run_lock
from redi_ray.store.storage import StorageError

DATA = bytes(range(256)) * 1200
TABLE = pa.table({"id": list(range(1000))})

Operation = Callable[[str, Path], object]


def write(root: str, local: Path) -> object:
    storage.write_bytes(f"{root}/new", DATA)
    return storage.read_bytes(f"{root}/new") == DATA


def write_table(root: str, local: Path) -> object:
    parquet.write_table(f"{root}/part.parquet", TABLE)
    return next(parquet.read_tables([f"{root}/part.parquet"])) == TABLE


def upload(root: str, local: Path) -> object:
    (local / "up").mkdir(parents=True)
    (local / "up" / "x").write_bytes(DATA)
    storage.upload(local / "up", f"{root}/copy")
    return storage.read_bytes(f"{root}/copy/x") == DATA


def download(root: str, local: Path) -> object:
    storage.download(f"{root}/there", local / "down")
    return (local / "down" / "x").read_bytes() == DATA


def lock(root: str, local: Path) -> object:
    with run_lock(f"{root}/run"):
        return True


OPERATIONS: dict[str, Operation] = {
    "read": lambda root, local: storage.read_bytes(f"{root}/there/x") == DATA,
    "tail": lambda root, local: storage.read_tail(f"{root}/there/x", 9) == DATA[-9:],
    "exists": lambda root, local: storage.exists(f"{root}/there/x"),
    "list": lambda root, local: storage.list_files(f"{root}/there") == [f"{root}/there/x"],
    "write": write,
    "table": write_table,
    "upload": upload,
    "download": download,
    "lock": lock,
}


def try_all(
    bucket: str, folder: Path, proxy: FaultProxy, kind: Kind | None, times: int, measured: Measured, name: str
) -> dict[str, object]:
    """Every operation beside the others, each with a rule of its own; operation -> its value or exception."""

    def one(operation: str) -> object:
        root = f"{bucket}/{name}-{operation}"
        if kind is not None:
            proxy.inject(kind, times=times, key=f"{name}-{operation}", method="GET" if kind == "truncated" else None)
        return measured.time(operation, name, lambda: OPERATIONS[operation](root, folder / operation))

    with ThreadPoolExecutor(len(OPERATIONS)) as pool:
        return dict(zip(OPERATIONS, pool.map(one, OPERATIONS), strict=True))


def put_what_is_read(bucket: str, name: str) -> None:
    for operation in OPERATIONS:
        storage.write_bytes(f"{bucket}/{name}-{operation}/there/x", DATA)


@pytest.mark.parametrize("kind", ["slow_down", "internal", "reset", "lost_answer", "truncated"])
def test_what_passes_is_got_over(kind: Kind, bucket: str, proxy: FaultProxy, measured: Measured, tmp_path: Path):
    """Twice in a row, at every operation, with equal bytes; a body that is cut off is never taken for the whole."""
    name = f"{kind}x2".replace("_", "-")
    put_what_is_read(bucket, name)
    found = try_all(bucket, tmp_path, proxy, kind, 2, measured, name)
    assert found == dict.fromkeys(OPERATIONS, True)
    met = [fault for fault in proxy.faults if fault.met == 2]
    assert len(met) >= (5 if kind == "truncated" else len(OPERATIONS))


def test_a_refusal_is_final_at_once(bucket: str, proxy: FaultProxy, measured: Measured, tmp_path: Path):
    put_what_is_read(bucket, "denied")
    proxy.seen.clear()
    found = try_all(bucket, tmp_path, proxy, "denied", 10**6, measured, "denied")
    for operation, error in found.items():
        assert isinstance(error, StorageError), operation
        assert error.exit_code == EXIT_BAD_INPUT
        assert f"{bucket}/denied-{operation}" in str(error)
        assert "access denied. Check AWS_ACCESS_KEY_ID" in str(error)
        assert "Traceback" not in str(error)
    assert len(proxy.seen) == len(OPERATIONS)  # none was tried again
    assert max(seconds for fault, _, seconds, _ in measured.rows if fault == "denied") < 3


@pytest.mark.parametrize("what", ["outage", "internal", "truncated"])
def test_what_lasts_ends_in_bounded_time(what: str, bucket: str, proxy: FaultProxy, measured: Measured, tmp_path: Path):
    """Six more tries here, ten in life. Then it says what was out of reach, and that a later try may go on."""
    name = f"lasting-{what}"
    put_what_is_read(bucket, name)
    if what == "outage":
        with proxy.outage():
            found = try_all(bucket, tmp_path, proxy, None, 0, measured, name)
    else:
        found = try_all(
            bucket, tmp_path, proxy, "internal" if what == "internal" else "truncated", 10**6, measured, name
        )
    failed = {name: error for name, error in found.items() if error is not True}
    assert len(failed) >= (4 if what == "truncated" else len(OPERATIONS))
    for operation, error in failed.items():
        assert isinstance(error, StorageError), (operation, error)
        assert error.exit_code == EXIT_FAILED
        assert f"{bucket}/{name}-{operation}" in str(error)
        assert "the same command goes on where it was" in str(error)
    assert max(seconds for fault, _, seconds, _ in measured.rows if fault == name) < 20
    proxy.clear()
    assert storage.read_bytes(f"{bucket}/{name}-read/there/x") == DATA


@pytest.mark.parametrize("operation", ["read", "list", "lock"])
def test_a_stall_is_got_over(operation: str, bucket: str, proxy: FaultProxy, measured: Measured, tmp_path: Path):
    root = f"{bucket}/stall-{operation}"
    storage.write_bytes(f"{root}/there/x", DATA)
    proxy.inject("stall", key=f"stall-{operation}")
    assert measured.time(operation, "stall", lambda: OPERATIONS[operation](root, tmp_path)) is True
    assert measured.rows[-1][2] < 4 * LIMITS.request_seconds


@pytest.mark.long
@pytest.mark.parametrize("operation", ["read", "write", "lock"])
def test_a_lasting_stall_ends(operation: str, bucket: str, proxy: FaultProxy, measured: Measured, tmp_path: Path):
    """That an upload stands still is seen some seconds after the set time (9 s instead of 2)."""
    root = f"{bucket}/stalled-{operation}"
    storage.write_bytes(f"{root}/there/x", DATA)
    proxy.inject("stall", times=10**6, key=f"stalled-{operation}")
    error = measured.time(operation, "lasting stall", lambda: OPERATIONS[operation](root, tmp_path))
    assert isinstance(error, StorageError)
    assert measured.rows[-1][2] < LIMITS.retries * 6 * LIMITS.request_seconds + 15


def test_a_missing_bucket_and_a_missing_file_are_named(bucket: str, proxy: FaultProxy):
    with pytest.raises(StorageError, match=r"s3://nowhere/x cannot be written: there is no such bucket. Create it"):
        storage.write_bytes("s3://nowhere/x", b"")
    with pytest.raises(StorageError, match="none/x cannot be read: it is not there"):
        storage.read_bytes(f"{bucket}/none/x")


def test_a_sign_of_life_whose_answer_is_lost_is_no_loss_of_the_lock(bucket: str, proxy: FaultProxy):
    """The try after it finds its own version changed, by itself."""
    mine = RunLock(f"{bucket}/signs")
    mine.acquire()
    for kind in ("lost_answer", "slow_down", "reset"):
        proxy.inject(kind, method="PUT", key="signs")
        mine.check()
    proxy.inject("truncated", method="GET", key="signs")
    rival = RunLock(f"{bucket}/signs")
    seen = rival.place.read()
    assert seen is not None
    assert seen.owner["id"] == mine.owner.id
    proxy.inject("lost_answer", method="PUT", key="signs")
    assert rival.place.take_over(seen, asdict(rival.owner))
    with pytest.raises(LockLost):
        mine.check()
    mine.release()
    assert rival.place.beat()


def test_an_outage_between_signs_of_life_does_not_end_a_run(bucket: str, proxy: FaultProxy):
    told: list[LockLost] = []
    mine = RunLock(f"{bucket}/outage", heartbeat=0.2, on_lost=told.append)
    mine.acquire()
    with proxy.outage():
        time.sleep(2)
    mine.check()
    mine.release()
    assert told == []
    assert not storage.exists(f"{bucket}/outage/{storage.LOCK}")


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("outage", EXIT_FAILED, "S3 did not answer, or was too busy, at every try"),
        ("denied", EXIT_BAD_INPUT, "access denied"),
        ("read-only", EXIT_BAD_INPUT, "access denied"),
        ("held", EXIT_BAD_INPUT, "is being written by another driver"),
    ],
)
def test_a_run_that_cannot_be_written_is_found_out_before_ray_starts(
    fault: str, code: int, told: str, bucket: str, proxy: FaultProxy, measured: Measured
):
    def start() -> object:
        return CliRunner().invoke(app, ["run", "configs/demo.yaml", f"storage.root={bucket}/{fault}"])

    running = ray.is_initialized()
    if fault == "outage":
        with proxy.outage():
            result = measured.time("redi-ray run", fault, start)
    elif fault == "held":
        mine = RunLock(f"{bucket}/{fault}/demo")
        mine.acquire()
        result = measured.time("redi-ray run", fault, start)
        mine.release()
    else:
        proxy.inject("denied", times=10**6, method="PUT" if fault == "read-only" else None, key=f"/{fault}/")
        result = measured.time("redi-ray run", fault, start)
    assert result.exit_code == code, result.output  # type: ignore[attr-defined]
    assert told in result.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in result.output  # type: ignore[attr-defined]
    assert ray.is_initialized() == running
    proxy.clear()
    assert storage.list_files(f"{bucket}/{fault}") == []
