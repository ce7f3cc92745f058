"""Groups of any size become arrays: weights of spans, rewards and units as data say; in parts that a rerun finds, in any cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_families import family
from token_arrays import build_sequences

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import EXAMPLE, GROUP, PAIR
from redi_ray.stages import parts, tokenising
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.groups import Learnt, groups_of, table_for
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts, read_piece
from redi_ray.stages.sequences import require_table
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.stages.training import require_rewards
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest
from redi_ray.text.templates import RoleError
from redi_ray.train.sequences import SequenceStore

PROMPT = PromptSettings(prefix="")
SCORED = Weighting(end_of_turn=False, think_tags=False)


def member(text: str, side: int, **more: Any) -> dict[str, Any]:
    turns = [{"role": "assistant", "content": text}]
    return {"turns": turns, "side": side, "reward": None, "finished": True, "spans": None, **more}


def group(name: str, *members: dict[str, Any], asks: str = "1+1") -> dict[str, Any]:
    return {
        "group_id": name,
        "problem_id": name,
        "prompt": [{"role": "user", "content": asks}],
        "members": list(members),
    }


def span(start: int, end: int, value: float, turn: int = 0) -> dict[str, Any]:
    return {"turn": turn, "start": start, "end": end, "value": value}


def build(
    root: Path,
    rows: list[dict[str, Any]],
    weighting: Weighting = SCORED,
    kind: Learnt = "groups",
    tokenizer: Any = None,
) -> dict[str, Any]:
    (tokenizer or character_tokenizer("0123456789+=")).save_pretrained(root / "tokenizer")
    parquet.write_table(f"{root}/in/part-0.parquet", pa.Table.from_pylist(rows, schema=GROUP))
    how = Tokenising("groups", kind, f"{root}/out", f"{root}/tokenizer", PROMPT, weighting)
    planned = plan_parts([f"{root}/in/part-0.parquet"])
    for part in planned:
        tokenise_part(part, how)
    return join_parts(planned, how)


def array(root: Path, name: str) -> np.ndarray:
    return np.load(root / "out" / "arrays" / f"{name}.npy")


def of_completions(root: Path, values: np.ndarray) -> list[list[float]]:
    offsets, prompts = array(root, "offsets"), array(root, "prompt_lengths")
    return [values[a + p : b].tolist() for a, b, p in zip(offsets[:-1], offsets[1:], prompts, strict=True)]


def test_a_group_of_n_with_rewards(tmp_path: Path):
    """One reward per sequence; sequences of a group side by side, groups in the order of their ids."""
    rows = [
        group("b", member("2", 1, reward=1.0), member("3", -1, reward=-0.5), member("4", -1, reward=0.25)),
        group("a", member("5", 1, reward=0.0)),
    ]
    built = build(tmp_path, rows)
    assert array(tmp_path, "reward").tolist() == [0.0, 1.0, -0.5, 0.25]
    assert array(tmp_path, "group").tolist() == [0, 1, 1, 1]
    assert array(tmp_path, "side").tolist() == [1, 1, -1, -1]
    assert array(tmp_path, "weights").dtype == np.uint8
    assert not (tmp_path / "out/arrays/unit.npy").exists()
    assert (built["counts"]["in"], built["counts"]["groups"], built["counts"]["sequences"]) == (2, 2, 4)


def test_rewards_that_some_lack_are_not_made_up(tmp_path: Path):
    built = build(tmp_path, [group("a", member("2", 1, reward=1.0), member("3", -1))])
    assert built["counts"]["units_without_reward"] == 1
    assert not (tmp_path / "out/arrays/reward.npy").exists()
    made = Manifest("sequences/groups", "key", "some/where", {}, {}, counts=built["counts"])
    with pytest.raises(
        DataError, match=r"x: asymre needs a reward for every sequence .*, and 1 in some/where have none"
    ):
        require_rewards("x", "asymre", made)


def test_only_the_differing_step_is_scored_and_no_end_of_turn(tmp_path: Path):
    """As in Step-DPO: the weight of what lies outside the spans is 0. Still one byte a token."""
    row = group("a", member("1+2=3", 1, spans=[span(2, 5, 1)]), member("1+4", -1, spans=[span(2, 3, 1)]))
    build(tmp_path, [row])
    assert of_completions(tmp_path, array(tmp_path, "weights")) == [[0, 0, 1, 1, 1, 0], [0, 0, 1, 0]]
    assert array(tmp_path, "weights").dtype == np.uint8


def test_a_weight_for_every_token_of_the_rejected_side_alone(tmp_path: Path):
    """As in cDPO: 1 - s on the rejected, the token that closes the turn and the chosen side 1; then weights are float32."""
    scores = [span(0, 1, 0.1), span(1, 2, 0.75)]
    rows = [group("a", member("12", 1), member("34", -1, spans=scores)), group("b", member("1", 1), member("2", -1))]
    build(tmp_path, rows, Weighting(end_of_turn=False, think_tags=False, outside_spans=1))
    found = of_completions(tmp_path, array(tmp_path, "weights"))
    assert found == [[1, 1, 1], [pytest.approx(0.1), 0.75, 1], [1, 1], [1, 1]]
    assert array(tmp_path, "weights").dtype == np.float32


def test_units_are_turns_or_spans_with_their_rewards(tmp_path: Path):
    turns = [
        {"role": "assistant", "content": "12"},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "45"},
    ]
    spans = [span(0, 1, 0.5), span(1, 2, -0.5), span(0, 2, 0.25, turn=2)]
    row = group("a", {**member("", 1, reward=2.0, spans=spans), "turns": turns}, member("6", -1, reward=3.0))
    build(tmp_path / "spans", [row], Weighting(False, False, 0, "spans"))
    assert array(tmp_path / "spans", "unit_offsets").tolist() == [0, 3, 4]
    assert array(tmp_path / "spans", "reward").tolist() == [0.5, -0.5, 0.25, 3.0]
    unit, weights = (
        of_completions(tmp_path / "spans", array(tmp_path / "spans", name)) for name in ("unit", "weights")
    )
    assert [u for u, w in zip(unit[0], weights[0], strict=True) if w] == [0, 1, 2, 2]
    row["members"][0]["spans"] = None
    build(tmp_path / "turns", [row], Weighting(False, False, 0, "turns"))
    assert array(tmp_path / "turns", "reward").tolist() == [2.0, 2.0, 3.0]
    unit, weights = (
        of_completions(tmp_path / "turns", array(tmp_path / "turns", name)) for name in ("unit", "weights")
    )
    assert [u for u, w in zip(unit[0], weights[0], strict=True) if w] == [0, 0, 0, 1, 1, 1]
    assert array(tmp_path / "turns", "unit").dtype == np.int16


def test_odd_groups_go_to_rejects_and_the_counts_reconcile(tmp_path: Path):
    """Each with its reason and place; those with nothing to score are dropped, as ever."""
    rows = [
        group("a", member("2", 1)),
        group("b", {**member("", 1), "turns": [{"role": "user", "content": "1"}]}),
        group("c", member("2", 1, spans=[span(0, 9, 1)])),
        group("d", member("2", 0)),
        group("e"),
        group("f", member("2", 1, spans=[])),
    ]
    built = build(tmp_path, rows)
    assert built["dropped"] == {"nothing_scored": 1}
    assert built["rejected"] == {"not_encodable": 4}
    assert (built["counts"]["in"], built["counts"]["out"]) == (6, 1)
    (file,) = storage.list_files(f"{tmp_path}/out/rejects")
    rejects = pq.read_table(file).to_pylist()
    places = [f"part-0.parquet:0:{number} ({name})" for number, name in enumerate("abcde") if name > "a"]
    assert [row["where"] for row in rejects] == places
    assert "none has the role assistant" in rejects[0]["detail"]
    assert "characters [0, 9)" in rejects[1]["detail"]
    with pytest.raises(DataError, match=r"none of the 1 groups can be encoded: .*side must be \+1 or -1, got 0"):
        build(tmp_path / "only", rows[3:4])


def test_a_template_without_tool_turns_ends_it_with_the_way_out(tmp_path: Path):
    """All such groups would be rejected: that is no matter of a row."""
    template = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
    turns = [
        {"role": "assistant", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "3"},
    ]
    rows = [group("a", member("1", 1)), group("b", {**member("", 1), "turns": turns})]
    with pytest.raises(RoleError, match="tool_role"):
        build(tmp_path, rows, tokenizer=family("qwen", template=template))


def test_every_table_gives_what_a_training_asks_for():
    answer, other = ([{"role": "assistant", "content": text}] for text in "23")
    prompt = [{"role": "user", "content": "1"}]
    example = {"example_id": "e", "problem_id": "p", "messages": prompt + answer, "finished": None}
    pair = {"pair_id": "p", "problem_id": "p", "prompt": prompt, "chosen": answer, "rejected": other}
    three = group("g", member("2", 1), member("3", -1), member("4", 1))
    two = group("h", member("3", -1), member("2", 1))

    def sides(row: dict[str, Any], table: Learnt, kind: Learnt) -> Any:
        found = groups_of(row, table, kind)
        return (
            found
            if isinstance(found, str)
            else [(one["group_id"], [m["side"] for m in one["members"]]) for one in found]
        )

    assert sides(example, "examples", "examples") == sides(example, "examples", "groups") == [("e", [1])]
    assert sides(pair, "pairs", "pairs") == sides(pair, "pairs", "groups") == [("p", [1, -1])]
    assert sides(pair, "pairs", "examples") == [("p", [1])]
    assert sides(three, "groups", "groups") == [("g", [1, -1, 1])]
    assert sides(three, "groups", "examples") == [("g#0", [1]), ("g#1", [1])]
    assert (sides(three, "groups", "pairs"), sides(two, "groups", "pairs")) == ("unpaired", [("h", [-1, 1])])
    assert groups_of(group("n", member("3", -1)), "groups", "examples") == "no_positive"

    def have(*tables: str) -> Any:
        return lambda table: ["file"] if table in tables else []

    assert table_for("examples", have("pairs", "groups")) == ("pairs", ["file"])
    assert table_for("pairs", have("examples")) is None
    with pytest.raises(DataError, match=r"no pairs to train on.*\(pairs, groups\).*sft"):
        require_table("pairs", Manifest("imported", "k", "nowhere", {}, {}))


def pairs_of(root: Path, count: int, row_groups: int = 3) -> list[str]:
    """Pairs in two files of several row groups, their ids in disorder."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice([*"0123456789+="], size)) for size in rng.integers(1, 40, 2 * count)]
    rows = [
        {
            "pair_id": f"{n * 7919 % 1009:04d}",
            "problem_id": str(n),
            "prompt": [{"role": "user", "content": f"{n}"}],
            "chosen": [{"role": "assistant", "content": texts[2 * n]}],
            "rejected": [{"role": "assistant", "content": texts[2 * n + 1]}],
            "rejected_finished": n % 3 > 0,
        }
        for n in range(count)
    ]
    for file in range(2):
        table = pa.Table.from_pylist(rows[file::2], schema=PAIR)
        (root / "in").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / "in" / f"part-{file}.parquet", row_group_size=-(-table.num_rows // row_groups))
    character_tokenizer("0123456789+=").save_pretrained(root / "tokenizer")
    return storage.list_files(f"{root}/in")


def test_arrays_do_not_depend_on_how_the_table_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Byte for byte, over parts of several row groups and of slices of one."""
    files = pairs_of(tmp_path, 60)
    sums = []
    for size in (1 << 24, 1500, 200):
        monkeypatch.setattr(parts, "PART_BYTES", size)
        monkeypatch.setattr(parts, "BATCH_BYTES", size)
        built = build_sequences("pairs", files, f"{tmp_path}/{size}", f"{tmp_path}/tokenizer", PROMPT, SCORED)
        folder = tmp_path / str(size) / "arrays"
        sums.append(({path.name: path.read_bytes() for path in folder.iterdir()}, json.dumps(built)))
    assert sums[0] == sums[1] == sums[2]
    assert len(list((tmp_path / "200" / "parts").iterdir())) > len(list((tmp_path / "1500" / "parts").iterdir())) > 2
    rows = {row["pair_id"]: row for file in files for row in pq.read_table(file).to_pylist()}
    store, tokenizer = SequenceStore.load(tmp_path / "200" / "arrays"), character_tokenizer("0123456789+=")
    told = [
        tokenizer.decode(store.tokens[store.span(n)]).split("<|assistant|>")[1].removesuffix("<|end|>")
        for n in range(120)
    ]
    assert told[::2] == [rows[key]["chosen"][0]["content"] for key in sorted(rows)]


def test_a_row_group_is_read_in_slices_that_lack_no_row(tmp_path: Path):
    files = pairs_of(tmp_path, 41, row_groups=1)
    whole = [row["pair_id"] for row in pq.read_table(files[0]).to_pylist()]
    for size in (1, 7, 10_000):
        piece = parts.Piece(files[0], 0, 0, len(whole), max(1, parts.BATCH_BYTES // size))
        cut = [parts.Piece(files[0], 0, a, b, piece.row_bytes) for a, b in ((0, 5), (5, 6), (6, len(whole)))]
        assert [row["pair_id"] for one in cut for _, row in read_piece(one, ["pair_id"])] == whole
        assert [number for one in cut for number, _ in read_piece(one, ["pair_id"])] == list(range(len(whole)))


def test_a_rerun_makes_only_the_parts_that_are_not_whole(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a task that was killed before its last file there is no part; a table that is cut otherwise has parts of its own."""
    files = pairs_of(tmp_path, 20)
    monkeypatch.setattr(parts, "PART_BYTES", 500)
    how = Tokenising("pairs", "pairs", f"{root}/out", f"{tmp_path}/tokenizer", PROMPT, SCORED)
    planned = plan_parts(files)

    def made() -> tuple[dict[str, Any], list[bytes]]:
        for part in planned:
            tokenise_part(part, how)
        return join_parts(planned, how), [storage.read_bytes(uri) for uri in storage.list_files(f"{root}/out/arrays")]

    expected = made()
    storage.delete_file(f"{how.place(planned[1])}/done.json")
    storage.write_bytes(f"{how.place(planned[1])}/tokens.bin", b"half")
    loaded = []
    original = tokenising.load_tokenizer
    monkeypatch.setattr(tokenising, "load_tokenizer", lambda *told: loaded.append(told) or original(*told))
    assert made() == expected
    assert len(loaded) == 1
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    cut_otherwise = {part.name: part for part in plan_parts(files)}
    assert len(cut_otherwise) < len(planned)
    assert all(cut_otherwise.get(part.name, part) == part for part in planned)


def test_examples_in_a_chat_learn_the_last_turn(tmp_path: Path):
    """What stands before it is the prompt, earlier answers too."""
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
    ]
    row = {"example_id": "a", "problem_id": "a", "messages": chat, "finished": True}
    character_tokenizer("0123456789+=").save_pretrained(tmp_path / "tokenizer")
    parquet.write_table(f"{tmp_path}/in/part-0.parquet", pa.Table.from_pylist([row], schema=EXAMPLE))
    build_sequences(
        "examples", [f"{tmp_path}/in/part-0.parquet"], f"{tmp_path}/out", f"{tmp_path}/tokenizer", PROMPT, SCORED
    )
    assert of_completions(tmp_path, array(tmp_path, "weights")) == [[1, 1]]
