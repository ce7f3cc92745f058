"""Tables of a step come whole to the hub, to S3 or into a folder, with a card that says where they are from, what was dropped and
why; what is not finished is not sent."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hub_server import HubServer
from processes import run as command

from redi_ray.config.load import dump_config, parse_config
from redi_ray.pipeline.data_cards import TableFacts, data_card_of, render_data_card
from redi_ray.pipeline.standard import graph_of
from redi_ray.schemas import PAIR, VERIFIED_TRACE
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.store.parquet import read_tables, write_table
from redi_ray.talk.models import TalkError
from redi_ray.talk.tables import export, find_tables, is_place

STEPS = {"spread": {"do": "select", "of": "verified", "diverse": {"problems": 2}}}
CHAT = [{"role": "assistant", "content": "2"}]


def verified(number: int, source: str) -> dict[str, object]:
    return {
        "problem_id": f"p{number}", "problem": "1+1", "answer": "2", "source": source, "trace_id": f"p{number}#0",
        "sample_index": 0, "completion": "2", "verdict": "correct",
    }  # fmt: skip


def made_run(root: str) -> str:
    """Traces of two sources that are verified and curated; the selection of them is not finished."""
    config = parse_config(
        {
            "name": "corpus",
            "storage": {"root": root},
            "problems": {"source": {"kind": "files", "paths": ["/secret/place/mine.jsonl"]}},
            "generate": {"kind": "endpoint", "endpoint": {"base_url": "http://inside/v1", "model": "big-teacher"}},
            "model": {"init": {"kind": "pretrained", "path": "/secret/place/Tiny"}},
            "steps": STEPS,
        }
    )
    run = config.run_uri
    storage.write_bytes(storage.join(run, "config.yaml"), dump_config(config).encode())
    stage = Stage(run, "problems", {"source": {"paths": ["/secret/place/mine.jsonl"]}}, {})
    stage.publish(counts={"in": 9, "out": 5}, rejected={"no_answer": 4})
    stage = Stage(run, "verified", {}, {})
    for shard, source in enumerate(("algebra", "geometry")):
        rows = [verified(2 * shard + number, source) for number in range(2 + shard)]
        uri = storage.join(stage.uri, "verified", "round-000", f"part-{shard}.parquet")
        write_table(uri, pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    write_table(storage.join(stage.uri, "work", "part-0.parquet"), pa.table({"a": [1]}))
    stage.publish(counts={"in": 5, "out": 5}, facts={"verdicts": {"correct": 5}})
    stage = Stage(run, "curated", {"curate": {"duplicates": {"exact": True}}}, {})
    pair = {"pair_id": "a", "problem_id": "p0", "prompt": CHAT, "chosen": CHAT, "rejected": CHAT}
    write_table(storage.join(stage.uri, "pairs", "part-0.parquet"), pa.Table.from_pylist([pair], schema=PAIR))
    write_table(storage.join(stage.uri, "dropped", "part-0.parquet"), pa.table({"problem_id": ["p1"]}))
    dropped = {"exact_duplicate": 3, "not_diverse": 1}
    stage.publish(counts={"in": 5, "out": 1, "positives": 1, "pairs": 1}, dropped=dropped)
    Stage(run, "checkpoints/base", {}, {}).publish(facts={"export": "/secret/place/Tiny"})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made_run(str(tmp_path_factory.mktemp("runs")))


def push(run: str, hub: HubServer, *more: str, expect: int = 0, **environment: str) -> str:
    told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return command("push", run, *more, environment=told | environment, expect=expect)


def test_the_card_says_where_rows_are_from_and_why_others_are_not_there(run: str):
    card = find_tables(run, "curated").card
    for told in (
        "- config_name: pairs\n  data_files: pairs/**/*.parquet",
        "| `pairs` | 1 | 1 | ",
        "| `chosen` | `list<element: struct<role: string, content: string>>` |",
        "sampled from big-teacher",
        "| `problems` (problems) | 9 | 5 | | |\n| | | | no_answer (rejected) | 4 |",
        "| `curated` (pairs) | 5 | 1 | | |\n| | | | exact_duplicate | 3 |\n| | | | not_diverse | 1 |",
        "| files: mine.jsonl | unknown |",
        "| what big-teacher wrote | unknown; the terms of its service |",
        "duplicates:\n      exact: true",
        "- mine.jsonl",
        "| commit | ",
    ):
        assert told in card, told
    for kept in ("secret", "http://inside", "dropped/", "\nlicense:"):
        assert kept not in card
    assert "| geometry | 3 |\n| algebra | 2 |" in find_tables(run, "verified").card


def test_a_licence_stands_where_all_that_went_in_has_it(run: str, monkeypatch: pytest.MonkeyPatch):
    source = {"kind": "hub", "dataset": "some/set", "columns": {"completion": "solution"}}
    config = parse_config(
        {
            "name": "x",
            "problems": {"source": source},
            "generate": {"kind": "import"},
            "model": {"init": {"kind": "pretrained", "path": "a/b"}},
        }
    )
    facts = [TableFacts("problems", 3_000_000, 1, 5, pa.schema([]))]
    made = {"problems": Manifest("problems", "k", "u", {}, {}, {"in": 3, "out": 3})}
    for known, line in (({}, "\nlicense: mit\n"), ({"a/b": "other"}, None)):
        monkeypatch.setattr(
            "redi_ray.pipeline.cards.licence_of", lambda path, kind, known=known: known.get(path, "mit")
        )
        card = render_data_card(data_card_of(config, graph_of(config), "problems", made, facts))
        assert (line in card) if line else ("\nlicense:" not in card)
        assert "source_datasets:\n- some/set" in card
        assert "1M<n<10M" in card


def test_to_the_hub_and_again_without_what_went(run: str):
    """A data set, private unless told otherwise; a file of an earlier push of the same table goes, a file of another stays."""
    with HubServer() as hub:
        assert "pushed: " in push(run, hub, "me/corpus", "--step", "verified")
        repository = hub.repositories["me/corpus"]
        assert (repository.kind, repository.private, repository.messages) == (
            "dataset",
            True,
            ["verified of run corpus"],
        )
        found = find_tables(run, "verified")
        assert set(repository.files) == {"README.md", *found.files}
        assert repository.files["README.md"].decode() == found.card
        assert all(repository.files[name] == storage.read_bytes(uri) for name, uri in found.files.items())
        repository.files |= {"verified/part-old.parquet": b"", "other/part.parquet": b"", "notes.txt": b""}
        push(run, hub, "me/corpus", "--step", "verified", "--public")
        assert set(repository.files) == {"README.md", *found.files, "other/part.parquet", "notes.txt"}
        assert not repository.private


def test_a_dry_run_asks_nobody_and_shows_the_card(run: str):
    with HubServer() as hub:
        told = push(
            run,
            hub,
            "me/corpus",
            "--step",
            "curated",
            "--table",
            "dropped",
            "--table",
            "pairs",
            "--dry-run",
            HF_TOKEN="",
        )
        assert "3 files of curated for me/corpus, private if it is new" in told
        assert "dropped/part-0.parquet" in told
        assert "## What stayed, and what did not" in told
        assert hub.seen == []
        assert "the hub refuses (401)" in push(
            run, hub, "me/corpus", "--step", "curated", expect=2, HF_TOKEN="hf_other"
        )
        assert "--model, to push a model, or --step" in push(run, hub, "me/corpus", expect=2)
        assert "a model is pushed to the hub" in push(run, hub, "s3://b/x", "--model", "base", expect=2)


@pytest.mark.parametrize(
    ("step", "tables", "told"),
    [
        ("spread", (), r"spread is not finished \(redi-ray run CONFIG --until spread\); .*: problems, verified, curated"),
        ("traces", (), "traces is not finished"),
        ("curatde", (), "no step named curatde; did you mean curated"),
        ("curated", ("examples",), "curated has no table examples; it has dropped, pairs"),
        ("base", (), r"base \(base\) has no rows to push; a model is pushed by --model"),
        ("problems", (), r"problems \(problems\) has no rows to push"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_told(run: str, step: str, tables: tuple[str, ...], told: str):
    with pytest.raises(TalkError, match=told):
        find_tables(run, step, tables)


@pytest.fixture(params=["local to s3", "s3 to local", "s3 to s3"])
def ways(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> tuple[str, str]:
    """A run, and where its tables go."""
    one, _, other = request.param.partition(" to ")
    places = {"local": str(tmp_path), "s3": f"{bucket}/{tmp_path.name}"}
    return made_run(f"{places[one]}/runs"), f"{places[other]}/out"


def test_to_s3_and_into_a_folder(ways: tuple[str, str]):
    """The same bytes, and the same again; a file that an earlier export has left in the table goes."""
    run, target = ways
    found = find_tables(run, "verified")
    export(found, target)
    write_table(f"{target}/verified/part-old.parquet", pa.table({"a": [1]}))
    assert export(found, target).endswith("/out")
    names = [uri.partition("/out/")[2] for uri in storage.list_files(target)]
    assert sorted(names) == sorted(["README.md", *found.files])
    assert storage.read_bytes(f"{target}/README.md").decode() == found.card
    for name, uri in found.files.items():
        assert storage.read_bytes(f"{target}/{name}") == storage.read_bytes(uri)
    assert sum(table.num_rows for table in read_tables(storage.list_files(f"{target}/verified"))) == 5


def test_a_folder_of_something_else_is_left_alone(run: str, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TalkError, match=r"files of something else \(mine.txt\)"):
        export(find_tables(run, "verified"), str(tmp_path))
    (tmp_path / "README.md").write_text("# Mine")
    with pytest.raises(TalkError, match="files of something else"):
        export(find_tables(run, "verified"), str(tmp_path))
    assert (tmp_path / "README.md").read_text() == "# Mine"


def test_an_export_that_was_cut_off_is_told_on_its_card_and_begun_anew(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found, real, copied = find_tables(run, "verified"), storage.copy_in, list[str]()

    def breaks(path: str | Path, uri: str) -> None:
        copied.append(uri)
        if len(copied) == 2:
            raise KeyboardInterrupt
        real(path, uri)

    monkeypatch.setattr(storage, "copy_in", breaks)
    with pytest.raises(KeyboardInterrupt):
        export(found, str(tmp_path / "out"))
    assert "Not all of it is here yet" in (tmp_path / "out" / "README.md").read_text()
    export(found, str(tmp_path / "out"))
    assert (tmp_path / "out" / "README.md").read_text() == found.card


def test_the_hubs_library_reads_what_was_exported(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the names of the tables, which the card gives it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, step in (("verified", "verified"), ("pairs", "curated")):
        folder = tmp_path / name
        assert "exported: " in command("push", run, str(folder), "--step", step)
        script = (
            f"from datasets import load_dataset; print(load_dataset({str(folder)!r}, {name!r}, split='train').num_rows)"
        )
        told = command(
            "python",
            "-c",
            script,
            environment={"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]},
        )
        assert told.split()[-1] == {"verified": "5", "pairs": "1"}[name]


def test_what_is_a_place_and_what_a_name():
    assert [name for name in ("s3://b/x", "/x", "./x", "~/x", "me/x", "x") if is_place(name)] == [
        "s3://b/x",
        "/x",
        "./x",
        "~/x",
    ]
