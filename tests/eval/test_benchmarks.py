"""Protects the benchmarks: every published file loads whole, its answers readable, and damage is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redi_ray.config.benchmarks import HUB, HubBenchmark
from redi_ray.config.evaluation import BenchmarkSettings, EvaluateSettings
from redi_ray.eval.benchmarks import BenchmarkError, load_benchmark
from redi_ray.schemas import PROBLEM

FILES = [
    ("math500", "prm800k_math500.jsonl", 500),
    ("math500", "rllm_math.json", 500),
    ("aime24", "qwen_aime24.jsonl", 30),
    ("aime24", "rllm_aime.json", 30),
    ("amc23", "qwen_amc23.jsonl", 40),
    ("amc23_83", "rllm_amc.json", 83),
    ("minerva", "rllm_minerva.json", 272),
    ("olympiadbench", "rllm_olympiad_bench.json", 675),
    ("gsm8k", "rllm_gsm8k.json", 1319),
]


def load(path: Path, name: str = "mine", **options: object) -> pa.Table:
    return load_benchmark(BenchmarkSettings(name=name, path=str(path), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "file", "count"), FILES)
def test_published_files(test_data: Path, name: str, file: str, count: int) -> None:
    """All rows, unique ids, no empty or null answer, no leftover of the file's notation."""
    table = load(test_data / "benchmarks" / file, name)
    assert table.schema == PROBLEM
    assert table.num_rows == count
    rows = table.to_pylist()
    assert [row["problem_id"] for row in rows] == [f"{name}-{index}" for index in range(count)]
    for row in rows:
        assert row["problem"].strip()
        assert row["answer"] == row["answer"].strip() != ""
        assert "$" not in row["answer"].replace(r"\$", "")
        assert not row["answer"].startswith(("['", '["'))  # a list's repr; an interval may start with [
        if HUB[name].integers:
            assert str(int(row["answer"])) == row["answer"]


def test_two_publishers_agree(test_data: Path) -> None:
    """The same benchmark from two sources, whose files differ in notation and order, has the same answers."""
    folder = test_data / "benchmarks"
    for name in ("math500", "aime24"):
        first, second = (load(folder / file, name) for of, file, _ in FILES if of == name)
        assert sorted(first["answer"].to_pylist()) == sorted(second["answer"].to_pylist())
    small = set(load(folder / "qwen_amc23.jsonl", "amc23")["answer"].to_pylist())
    assert small <= set(load(folder / "rllm_amc.json", "amc23_83")["answer"].to_pylist())


def test_known_answers(test_data: Path) -> None:
    """One row for each oddity, read off the files by eye."""
    folder = test_data / "benchmarks"
    answers = {name: load(folder / file, name)["answer"].to_pylist() for name, file, _ in FILES}
    assert answers["minerva"][:3] == ["9.6", r"8.7 \times 10^{8}", "0.022"]  # a list of one, with a newline
    assert "6630.65" in answers["minerva"]  # two spellings: the first
    assert answers["amc23_83"][:2] == ["142", "144"]  # floats
    assert answers["aime24"][:3] == ["204", "25", "809"]  # "025"
    assert "1450000" in answers["gsm8k"]  # "1,450,000"
    assert "69,84" in answers["olympiadbench"]  # "$69$,$84$"
    assert r"\$18.90" in answers["math500"]  # money, not mathematics


@pytest.mark.parametrize(
    ("raw", "name", "expected"),
    [
        ("She has 3 * 4 = <<3*4=12>>12 eggs.\n#### 12", "gsm8k", "12"),  # the hub's own column
        ("-1,200.0", "gsm8k", "-1200"),
        ("000", "aime24", "0"),
        ("007", "mine", "007"),  # nothing is known of the user's own file, so nothing is changed
        (["$x=1$", "$x=2$"], "olympiadbench", "x=1, x=2"),  # the hub lists parts
        (["\n", "2\n", "3"], "minerva", "2"),
        (0, "mine", "0"),
        (2.5, "amc23", "2.5"),
        (1e-05, "mine", "0.00001"),
        (True, "mine", "True"),
        (["5"], "mine", "5"),
        (["0.5", r"\frac12"], "mine", "0.5"),
        (["1", "1"], "olympiadbench", "1, 1"),
    ],
)
def test_answer_notation(tmp_path: Path, raw: object, name: str, expected: str) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"question": "What?", "answer": raw}))
    assert load(path, name)["answer"].to_pylist() == [expected]


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    """JSON list, JSON Lines (with a separator character inside a string), gzip, Parquet; columns by another name."""
    rows = [{"q": f"What is {n}\u2028?", "gold": n} for n in range(3)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "bom.jsonl").write_bytes(bz2.compress(lines.encode("utf-8-sig")))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    tables = [load(path, problem_column="q", answer_column="gold") for path in sorted(tmp_path.iterdir())]
    assert len(tables) == 6
    assert all(table == tables[0] for table in tables)
    assert tables[0]["answer"].to_pylist() == ["0", "1", "2"]


def test_max_problems_is_a_seeded_choice_with_stable_ids(test_data: Path) -> None:
    path = test_data / "benchmarks" / "prm800k_math500.jsonl"
    whole = {row["problem_id"]: row for row in load(path, "math500").to_pylist()}
    some = load(path, "math500", max_problems=50).to_pylist()
    assert len(some) == 50
    assert all(whole[row["problem_id"]] == row for row in some)
    assert some == load(path, "math500", max_problems=50).to_pylist()
    assert some != load(path, "math500", max_problems=50, subset_seed=1).to_pylist()
    assert [row["problem_id"] for row in some] != [f"math500-{index}" for index in range(50)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"problem": "1+1?", "answer": "2"}\n{"problem": ', r"bad\.jsonl, line 2: broken JSON"),
        ('[{"problem": "1+1?",\n "answer"}]', r"bad\.jsonl, line 2: broken JSON"),
        ('{"problem": "1+1?", "answer": null}', r"row 1, column 'answer': no answer in None"),
        ('{"problem": "1+1?", "answer": [" "]}', r"row 1, column 'answer': no answer"),
        ('{"problem": "1+1?", "answer": NaN}', r"row 1, column 'answer': no answer in nan"),
        ('{"problem": "1+1?", "answer": "N/A"}', r"row 1, column 'answer': no answer in 'N/A'"),
        ('{"problem": "1+1?", "answer": {"value": 2}}', r"row 1, column 'answer' holds dict .*name it as `column.field`"),
        ('{"problem": "1+1?", "answer": ["2", "3"]}', r"row 1, column 'answer' holds list .*parts of one or spellings"),
        ('{"problem": [{"role": "system", "content": "s"}], "answer": "2"}', r"row 1, column 'problem': .*a system turn"),
        ('{"problem": " ", "answer": "2"}', r"row 1, column 'problem': .*empty"),
        ('{"text": "1+1?", "answer": "2"}', r"no column 'problem' or 'question'; set problem_column to one of"),
        ('{"problem": "1+1?", "target": "2"}', r"no column 'answer' or 'final_answer'; set answer_column"),
        ("7", r"row 1: expected an object"),
        ("", r"bad\.jsonl: no rows"),
        ("PAR1 and then nothing", r"bad\.jsonl: damaged Parquet"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(BenchmarkError, match=message):
        load(path)


def test_missing_or_cut_files(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"gone\.json: no such file"):
        load(tmp_path / "gone.json")
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b'{"problem": "1+1?", "answer": "2"}' * 50)[:-20])
    with pytest.raises(BenchmarkError, match="damaged gzip"):
        load(cut)


def test_offline_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(BenchmarkError, match=r"aime24: could not load HuggingFaceH4/aime_2024.*give a local copy"):
        load_benchmark(BenchmarkSettings(name="aime24"))


def test_hub_path_reads_through_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dataset repository in a local folder takes the hub's way in, with its own split and notation."""
    import datasets

    (tmp_path / "repo").mkdir()
    rows = [{"problem": "What is 5^2?", "answer": "025"}, {"problem": "What is 4^2?", "answer": "016"}]
    (tmp_path / "repo" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = HubBenchmark(str(tmp_path / "repo"), None, "train", 1, integers=True)
    monkeypatch.setitem(HUB, "aime24", source)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert load_benchmark(BenchmarkSettings(name="aime24"))["answer"].to_pylist() == ["25", "16"]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown benchmark 'aime2024': give a path, or one of math500, aime24"):
        BenchmarkSettings(name="aime2024")
    with pytest.raises(ValueError, match="letters, digits"):
        BenchmarkSettings(name="a#b", path="x.json")
    with pytest.raises(ValueError, match="different names"):
        EvaluateSettings(benchmarks=[BenchmarkSettings(name="gsm8k")] * 2)
    with pytest.raises(BenchmarkError, match="arithmetic: not a benchmark of the hub"):
        load_benchmark(BenchmarkSettings(name="arithmetic"))
