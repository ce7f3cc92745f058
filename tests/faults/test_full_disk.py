"""A disk without room: one clear error, nothing half-written in place, and the same call goes on when there is room again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from recovery import recovering
from test_worker import make_orders, work, write_all
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Stage
from redi_ray.store.storage import StorageError
from redi_ray.train.on_ray.launch import read_outcome

ROOM = 8 << 20


class SmallDisk:
    """A tmpfs of 8 MiB."""

    def __init__(self, root: Path) -> None:
        self.root, self.filler = root, root / "filler"

    def fill(self, leave: int) -> None:
        """Take all room but so many bytes."""
        free = storage_room(self.root)
        self.filler.write_bytes(bytes(max(0, free - leave)))

    def make_room(self) -> None:
        self.filler.unlink()


def storage_room(path: Path) -> int:
    import shutil

    return shutil.disk_usage(path).free


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(root)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount; test_a_file_size_limit_is_told_too does without")
    yield SmallDisk(root)
    # lazy: arrays that were read may still be mapped
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_tables_and_manifests(disk: SmallDisk):
    root = str(disk.root)
    storage.write_bytes(f"{root}/old.json", b"old")
    table = pa.table({"text": [str(hash(("x", i))) * 20 for i in range(20_000)]})
    disk.fill(leave=4096)
    before = files(disk.root)
    stage = Stage(root, "curated", {"long": "x" * 20_000}, {})
    for write in (
        lambda: parquet.write_table(f"{root}/part.parquet", table),
        lambda: storage.write_bytes(f"{root}/old.json", bytes(1 << 20)),
        stage.publish,
    ):
        with pytest.raises(StorageError, match=rf"{root}/.* cannot be written: the disk is full\. .* make room"):
            write()
        assert files(disk.root) == before
    assert storage.read_bytes(f"{root}/old.json") == b"old"
    assert stage.published() is None
    disk.make_room()
    parquet.write_table(f"{root}/part.parquet", table)
    stage.publish()
    assert stage.published() is not None
    assert next(parquet.read_tables([f"{root}/part.parquet"])) == table


def test_a_training_ends_clearly_and_goes_on_to_the_same_weights(disk: SmallDisk, tmp_path: Path):
    """The checkpoint that does not fit is removed whole; torch says nothing of the disk, we do."""
    write_all(tmp_path, str(tmp_path / "calm"), str(disk.root))
    calm, tight = make_orders(str(tmp_path / "calm")), make_orders(str(disk.root))
    work(calm, tmp_path / "1")
    disk.fill(leave=1 << 20)
    with pytest.raises(StorageError, match=r"step-0000000\d\.\w+ cannot be written: the disk is full"):
        work(tight, tmp_path / "2")
    sealed = {name.rsplit("/", 1)[0] for name in files(disk.root) if name.endswith("files.json")}
    left = {name.rsplit("/", 1)[0] for name in files(disk.root) if "checkpoints/" in name}
    assert left == sealed
    disk.make_room()
    with recovering("there was room on the disk again"):
        work(replace(tight), tmp_path / "3")
    assert read_outcome(tight.out_uri) is not None
    weights = [(Path(orders.out_uri) / "export" / "model.safetensors").read_bytes() for orders in (calm, tight)]
    assert weights[0] == weights[1]


def test_a_command_says_so_and_works_when_there_is_room(disk: SmallDisk):
    run = disk.root / "imported"
    (run / "report").mkdir(parents=True)
    (run / "config.yaml").write_text("name: imported\n")
    config = {
        "name": "imported",
        "problems": {"source": {"kind": "files", "paths": ["x.jsonl"], "columns": {"completion": "completion"}}},
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch"}},
        "evaluate": {"benchmarks": []},
        "storage": {"root": str(disk.root)},
    }
    (disk.root / "c.yaml").write_text(yaml.safe_dump(config))
    disk.fill(leave=0)
    full = CliRunner().invoke(app, ["report", str(disk.root / "c.yaml")])
    assert full.exit_code == 2, full.output
    assert "the disk is full" in full.stderr
    assert files(run) == {"config.yaml"}
    disk.make_room()
    again = CliRunner().invoke(app, ["report", str(disk.root / "c.yaml")])
    assert again.exit_code == 0, again.output
    assert "report/index.html" in files(run)


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_checkpoint import checkpointer, trained
from redi_ray.store import storage
from redi_ray.store.storage import StorageError
root = Path(sys.argv[1])
policy, optimizer = trained(1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
for write in (
    lambda: storage.write_bytes(f"{root}/x.json", bytes(60_000)),
    lambda: checkpointer(root / "checkpoints").save(policy, optimizer, 1, {}),
):
    try:
        write()
    except StorageError as error:
        assert "the file-size limit (ulimit -f) is reached" in str(error), error
        assert not [path for path in root.rglob("*") if path.is_file()]
        print("told")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
checkpointer(root / "checkpoints").save(policy, optimizer, 1, {})
print("saved")
"""


@pytest.mark.slow
def test_a_file_size_limit_is_told_too(tmp_path: Path):
    tests = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(tests), str(tests / "train")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["told", "told", "saved"], done.stderr[-2000:]
