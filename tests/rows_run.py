"""A small run to look at: traces, pairs, columns and three models of random weights, and texts that mean harm among them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import yaml

from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import tokenizer_fingerprints, train_bpe_tokenizer
from redi_ray.schemas import PAIR, REJECT, SCORE, SPAN_SCORE, VERIFIED_TRACE, stored_votes, token_scores
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes

CONFIG: dict[str, Any] = {
    "name": "run",
    "evaluate": {"benchmarks": []},
    "model": {"prompt": {"prefix": ""}},
    "redi": {"arms": {"redi": {"objective": {"name": "redi", "alpha": 0.5}}}},
    "steps": {
        "scored": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
        "likely": {"do": "logps", "of": "verified", "model": "sft"},
        "located": {"do": "score", "of": "traces", "scorer": {"name": "rule", "pattern": "Step", "spans": True}},
    },
}
MODELS = ("base", "sft", "redi")
HARM = (
    "</pre></span><script>document.title='owned'</script><img src=http://example.com/x onerror=document.title='owned'>"
)
TEXTS = {
    "plain": "Step 1: 2 + 2 = 4. Step 2: so 5.",
    "script": f"a {HARM} b",
    "attribute": "\" onmouseover=\"document.title='owned'\" x='",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} <!-- --> ]]>",
    "nul": "before\x00behind \x1b[31mred\x07 \x9b2J",
    "bidi": "safe \u202eyllufmrah\u202c \u2066isolated \u202d open",
    "arabic": "\u0627\u0644\u062c\u0648\u0627\u0628 42 \u05e9\u05dc\u05d5\u05dd",
    "emoji": "so \U0001f469\u200d\U0001f467 and \u00e9\u0301 and \ud7ff\ue000 end",
    "huge": "start " + "All work and no play. " * 240_000 + " finish",
    "lines": "\r\n".join(["one", "two\u2028three", "\u0085four"]) * 3,
}
"""Name of a problem -> what its trace says."""
IDS = {
    "script": "<script>alert(1)</script>#0",
    "attribute": "\"'><b>&amp;?x=1#2/3",
    "bidi": "\u202eabc#0",
    "lines": "a b\nc%2F..#0",
}
"""Problem -> its trace's id, where that is odd."""


def id_of(name: str) -> str:
    return IDS.get(name, f"{name}#0")


def trace(name: str, text: str, **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": name, "problem": f"{name}: {text[:300]}", "answer": "4", "source": f"book {HARM}",
        "trace_id": id_of(name), "sample_index": 0, "completion": text, "turns": None, "finish_reason": "stop",
        "num_tokens": len(text), "model": "teacher", "sampling": None, "votes": None,
        "verdict": "correct" if name == "arabic" else "wrong",
        "verdict_by": stored_votes({"math_verify": "wrong", HARM: "wrong"}), "extracted_answer": text[:40], **changes,
    }  # fmt: skip


TURNS = [
    {"role": "assistant", "content": "<code>print(2 + 2)</code>"},
    {"role": "tool", "content": f"4 {HARM}"},
    {"role": "assistant", "content": "so Step 2: 4"},
]
PAIRS = [
    ("h/plain#0/plain#1", "plain", "2 + 2 = 4, so the answer is 4.", "2 + 2 = 5, so the answer is 5."),
    ("h/script#0/script#1", "script", TEXTS["script"], TEXTS["attribute"]),
    ("h/emoji#0/emoji#1", "emoji", TEXTS["emoji"], TEXTS["arabic"]),
    ("h/huge#0/huge#1", "huge", TEXTS["huge"], "short"),
]


def write_rows_run(run: str, *, models: bool = True) -> str:
    """Write it; its folder."""
    write_bytes(join(run, "config.yaml"), yaml.safe_dump(CONFIG).encode())
    rows = [*(trace(name, text) for name, text in TEXTS.items()), trace("turns", TURNS[-1]["content"], turns=TURNS)]
    _publish(run, "verified", "verified", rows, VERIFIED_TRACE)
    ids = [row["trace_id"] for row in rows]
    scores = [{"trace_id": name, "value": float(number)} for number, name in enumerate(ids)]
    _publish(run, "steps/scored/column", "column", scores, SCORE)
    first, second = TEXTS["plain"].index("Step 2"), len(TEXTS["plain"])
    spans = [
        {"turn": 0, "start": 0, "end": first, "label": "right", "value": 0.9},
        {"turn": 0, "start": first, "end": second, "label": "wrong", "value": 0.1},
    ]
    located = [{"trace_id": name, "spans": spans if name == "plain#0" else None} for name in ids]
    _publish(run, "steps/located/column", "column", located, SPAN_SCORE)
    pairs = [
        {
            "pair_id": name, "problem_id": problem, "prompt": [{"role": "user", "content": f"What is {problem}?"}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            "chosen_finished": True, "rejected_finished": problem != "plain",
        }
        for name, problem, chosen, rejected in PAIRS
    ]  # fmt: skip
    curated = _publish(run, "curated", "pairs", pairs, PAIR)
    rejects = [{"where": f"x.jsonl:3 {HARM}", "reason": "no_answer", "detail": HARM, "raw": HARM * 3}]
    write_table(join(curated.uri, "rejects", "part-0.parquet"), pa.Table.from_pylist(rejects, schema=REJECT))
    if models:
        write_models(run)
        tokens = [{"trace_id": name, "values": [-0.5] * 10 if name == "plain#0" else None} for name in ids]
        _publish(run, "steps/likely/column", "column", tokens, token_scores(fingerprint(run)))
    return run


def write_many(run: str, files: int) -> str:
    """Traces alone, one to a file; its folder."""
    write_bytes(join(run, "config.yaml"), yaml.safe_dump({**CONFIG, "steps": {}}).encode())
    made = Stage(run, "verified", {}, {})
    for number in range(files):
        row = trace(f"p{number}", f"The answer is {number}.")
        name = join(made.uri, "verified", f"part-{number:03d}.parquet")
        write_table(name, pa.Table.from_pylist([row], schema=VERIFIED_TRACE))
    made.publish(counts={"in": files, "out": files})
    return run


def _publish(run: str, stage: str, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Stage:
    made = Stage(run, stage, {}, {})
    write_table(join(made.uri, table, "part-0.parquet"), pa.Table.from_pylist(rows, schema=schema))
    made.publish(counts={"in": len(rows), "out": len(rows)})
    return made


def tokenizer() -> Any:
    return train_bpe_tokenizer([TEXTS["plain"] * 4, *(chosen for *_, chosen, _ in PAIRS[:1])], 300)


def fingerprint(_run: str) -> str:
    return tokenizer_fingerprints(tokenizer())["tokenizer"]


def write_models(run: str) -> None:
    """Of random weights, the same tokenizer in each."""
    for seed, name in enumerate(MODELS):
        stage = Stage(run, f"checkpoints/{name}", {"seed": seed}, {})
        architecture = Architecture(
            hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=2, intermediate_size=64, max_position_embeddings=512,
            seed=seed,
        )  # fmt: skip
        parameters = save_scratch_model(architecture, tokenizer(), join(stage.uri, "export"))
        stage.publish(facts={"export": join(stage.uri, "export"), "parameters": parameters})
