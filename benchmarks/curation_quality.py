"""Do duplicates and contaminated problems go, and do clean problems stay? Real problems with planted copies.

    python benchmarks/curation_quality.py [--quick] [--data FOLDER] [--seed N]

The corpus is GSM8K's test set and MATH-500, half of each; the other halves, AIME24, AMC, Minerva and OlympiadBench are the
benchmarks in use. So clean problems and benchmarks come from the same books, as they do in life. Planted in the corpus:

- copies of its own problems with other punctuation, other LaTeX spacing, other case, a replaced word (by one of another
  problem), clauses in another order, and all of these at once;
- benchmark problems copied, embedded in a longer text, with small edits (one or two replaced words, other punctuation), and
  embedded with small edits. Problems of fewer words than an n-gram are only copied: for those the rule is the whole text.

Everything goes through the stage itself. A planted duplicate counts as removed when it is gone, or when it is all that is
left of its original and the other copies. `plain` is what is usual: any shared word 8-gram, and near-duplicates by words
alone. Every clean problem that was dropped, and every planted one that stayed, is printed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from redi_ray.cluster.runtime import ray_connection
from redi_ray.config.curation import CurateConfig
from redi_ray.config.evaluation import BenchmarkSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import RaySettings
from redi_ray.data.curate.contamination import BENCHMARKS
from redi_ray.data.curate.curate import curate
from redi_ray.eval.benchmarks import load_benchmark
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.store import parquet, storage
from redi_ray.text.wording import words

CORPUS = {"gsm8k": "rllm_gsm8k.json", "math500": "prm800k_math500.jsonl"}
OTHERS = {
    "aime24": "qwen_aime24.jsonl",
    "amc23_83": "rllm_amc.json",
    "minerva": "rllm_minerva.json",
    "olympiadbench": "rllm_olympiad_bench.json",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "ours": {"duplicates": {}, "contamination": {}},
    "plain": {
        "duplicates": {"near": {"same_formulas": False}},
        "contamination": {"share": 0, "small_share": 1.0},
    },
}
PROSE = re.compile(r"(?<![\\\w$^_{])[A-Za-z]{4,}(?![\w$}\\])")
BEFORE = (
    "Here is a question from last year's training camp.",
    "My brother could not do this one, perhaps you can.",
    "Read all of it before you begin.",
)
AFTER = (
    "Give reasons for each step of your solution.",
    "Show your work, and check the result at the end.",
    "A calculator is of no use here.",
)

# ------------------------------------------------------------------------------------------------------------- edits


def outside_math(text: str, edit: Callable[[str], str]) -> str:
    """`edit` applied to what stands outside dollars, backslashed brackets and figures."""
    parts = re.split(
        r"(\$\$.*?\$\$|\$[^$]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\begin.*?\\end\{[^}]*\}|\[asy\].*?\[/asy\])",
        text,
        flags=re.DOTALL,
    )
    return "".join(part if number % 2 else edit(part) for number, part in enumerate(parts))


def punctuation(text: str, chance: random.Random) -> str:
    mark = chance.choice([";", " -", "..."])
    text = outside_math(text, lambda part: re.sub(r"(?<=[a-z]{2}),(?=\s)", mark, part))
    text = outside_math(text, lambda part: re.sub(r"(?<=[a-z])\.(?=\s|$)", chance.choice(["!", " .", ";"]), part))
    return text.rstrip("?.! ") + chance.choice(["", " ?", "."])


def spacing(text: str, chance: random.Random) -> str:
    """LaTeX typed otherwise; where there is none, numbers come to stand between dollars."""
    if "$" not in text and "\\" not in text:
        return re.sub(r"(?<![\w.,])(\d+)(?![\w.,%]|\s*/)", r"$\1$", text).replace(" ", "  ", 3)
    text = text.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "")
    text = re.sub(r"(?<=[\w)}])\s*([=+])\s*(?=[\w({\\])", chance.choice([r" \1 ", r"\1", r"\\,\1\\;", r"~\1\\ "]), text)
    brackets = chance.random() < 0.5 and "$$" not in text and "\\" in text and "\\$" not in text
    return re.sub(r"\$([^$]+)\$", r"\\(\1\\)", text) if brackets else text


def case(text: str, chance: random.Random) -> str:
    return outside_math(text, chance.choice([str.upper, str.lower, str.title]))


def replaced_word(text: str, chance: random.Random, lexicon: list[str]) -> str:
    """A word of four letters or more, outside formulas, by one of another problem. Figures are left alone."""
    body, figure, rest = text.partition("[asy]")
    found = list(PROSE.finditer(body))
    if not found:
        return text
    where = chance.choice(found)
    return body[: where.start()] + chance.choice(lexicon) + body[where.end() :] + figure + rest


def swapped_clauses(text: str, chance: random.Random) -> str:
    """Sentences, or else clauses, in another order."""
    for pattern in (r"(?<=[.?!])\s+(?=[A-Z$])", r",\s+(?=[a-z])"):
        parts = re.split(pattern, text.strip())
        if len(parts) > 1 and "[asy]" not in text:
            turn = chance.randrange(1, len(parts))
            joint = " " if pattern.startswith("(?<=") else ", "
            return joint.join([*parts[turn:], *parts[:turn]])
    return text


def embedded(text: str, chance: random.Random) -> str:
    return f"{chance.choice(BEFORE)} {text} {chance.choice(AFTER)}"


def small_edits(text: str, chance: random.Random, lexicon: list[str]) -> str:
    """One replaced word, two in a text of 20 words or more, and other punctuation."""
    text = replaced_word(text, chance, lexicon)
    return punctuation(replaced_word(text, chance, lexicon) if len(words(text)) >= 20 else text, chance)


def duplicate_edits(lexicon: list[str]) -> dict[str, Callable[[str, random.Random], str]]:
    def everything(text: str, chance: random.Random) -> str:
        text = swapped_clauses(replaced_word(text, chance, lexicon), chance)
        return case(spacing(punctuation(text, chance), chance), chance)

    return {
        "punctuation": punctuation,
        "latex_spacing": spacing,
        "case": case,
        "replaced_word": lambda text, chance: replaced_word(text, chance, lexicon),
        "swapped_clauses": swapped_clauses,
        "all_at_once": everything,
    }


def contamination_edits(lexicon: list[str]) -> dict[str, Callable[[str, random.Random], str]]:
    return {
        "copied": lambda text, chance: text,
        "embedded": embedded,
        "edited": lambda text, chance: small_edits(text, chance, lexicon),
        "embedded_edited": lambda text, chance: embedded(small_edits(text, chance, lexicon), chance),
    }


# ------------------------------------------------------------------------------------------------------- the corpus


def load(data: Path, files: dict[str, str]) -> dict[str, str]:
    """Id -> text of the problems in these files."""
    tables = [load_benchmark(BenchmarkSettings(name=n, path=str(data / "benchmarks" / f))) for n, f in files.items()]
    return {row["problem_id"]: row["problem"] for table in tables for row in table.to_pylist()}


def halves(problems: dict[str, str], chance: random.Random) -> tuple[dict[str, str], dict[str, str]]:
    chosen = set(chance.sample(sorted(problems), len(problems) // 2))
    return tuple({k: v for k, v in problems.items() if (k in chosen) is side} for side in (True, False))  # type: ignore[return-value]


def plant(
    problems: dict[str, str], edits: dict[str, Callable[[str, random.Random], str]], each: int, chance: random.Random
) -> dict[str, tuple[str, str]]:
    """Planted id `<original>+<edit>` -> (text, original's id), `each` of every edit where it changes anything."""
    planted = {}
    for name, edit in edits.items():
        left = each
        for original in chance.sample(sorted(problems), len(problems)):
            text = problems[original]
            if left == 0 or (name != "copied" and len(words(text)) < 8):
                continue
            edited = edit(text, chance)
            if edited != text or name == "copied":
                planted[f"{original}+{name}"] = edited, original
                left -= 1
    return planted


def write_corpus(folder: Path, texts: dict[str, str], chance: random.Random) -> list[str]:
    """One correct trace of each problem, in shards; ids are hashed by the stage, so that no side is preferred."""
    rows = [
        {
            "problem_id": problem_id,
            "problem": text,
            "trace_id": f"{problem_id}#0",
            "sample_index": 0,
            "completion": "<think>so</think> \\boxed{1}",
            "verdict": "correct",
            "verdict_by": {"label": "correct"},
        }
        for problem_id, text in texts.items()
    ]
    chance.shuffle(rows)
    uris = [f"{folder}/verified/part-{number}.parquet" for number in range(4)]
    for number, uri in enumerate(uris):
        parquet.write_table(uri, pa.Table.from_pylist(rows[number::4], schema=VERIFIED_TRACE))
    return uris


# ------------------------------------------------------------------------------------------------------- the verdict


def judge(
    folder: Path, clean: dict[str, str], duplicates: dict[str, Any], contaminated: dict[str, Any], show: bool
) -> dict[str, Any]:
    """Counts of what went, and of what should have gone or stayed."""
    tables = parquet.read_tables(storage.list_files(f"{folder}/dropped", ".parquet"))
    rows = [row for table in tables for row in table.to_pylist() if row["what"] == "problem"]
    gone = {row["problem_id"]: (row["reason"], row["detail"]) for row in rows}
    family = {planted: original for planted, (_, original) in duplicates.items()} | {name: name for name in clean}
    left = Counter(family[name] for name in family if name not in gone)
    asked: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for planted, (text, original) in {**duplicates, **contaminated}.items():
        kind = planted.rpartition("+")[2]
        asked[kind] += 1
        found = planted in gone or (planted in duplicates and left[original] == 1)
        removed[kind] += found
        if show and not found:
            print(f"MISSED {planted}: {text[:300]!r}")
    mistakes = {}
    for problem_id in clean.keys() & gone.keys():
        reason, detail = gone[problem_id]
        other = detail.removeprefix("of ").partition(",")[0]
        if not (reason.endswith("duplicate") and family.get(other) == problem_id):
            mistakes[problem_id] = f"{reason} {detail}"
    for problem_id, told in mistakes.items() if show else ():
        print(f"CLEAN BUT DROPPED {problem_id}, {told}: {clean[problem_id][:200]!r}")
    planted_counts = {kind: [removed[kind], count] for kind, count in asked.items()}
    return {
        "removed": sum(removed.values()),
        "planted": sum(asked.values()),
        "clean": len(clean),
        "clean_dropped": len(mistakes),
        "clean_dropped_share": round(len(mistakes) / len(clean), 5),
        "removed_of_planted": planted_counts,
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    chance = random.Random(options.seed)
    corpus, held = halves(load(options.data, CORPUS), chance)
    benchmarks = {**held, **load(options.data, OTHERS)}
    lexicon = sorted({word for text in held.values() for word in PROSE.findall(text)})
    duplicates = plant(corpus, duplicate_edits(lexicon), options.each, chance)
    contaminated = plant(benchmarks, contamination_edits(lexicon), options.each, chance)
    texts = {**corpus, **{name: text for name, (text, _) in {**duplicates, **contaminated}.items()}}
    shards = write_corpus(folder, texts, chance)
    table = pa.Table.from_pylist([{"problem_id": k, "problem": v} for k, v in benchmarks.items()], schema=BENCHMARKS)
    tokenizer = str(folder / "tokenizer")
    train_bpe_tokenizer(list(corpus.values())[:200], 1000).save_pretrained(tokenizer)
    results: dict[str, Any] = {}
    for name, blocks in CONFIGS.items():
        if options.quick and name == "plain":
            continue
        started = time.monotonic()
        config = CurateConfig.model_validate({"max_prompt_tokens": 100_000, **blocks})
        out = folder / name
        curate(
            shards,
            str(out),
            config,
            tokenizer=tokenizer,
            prompt=PromptSettings(),
            num_problems=len(texts),
            benchmarks=table,
        )
        results[name] = judge(out, corpus, duplicates, contaminated, show=name == "ours")
        results[name]["seconds"] = round(time.monotonic() - started, 1)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="25 of each kind instead of 250, without `plain`")
    parser.add_argument("--data", type=Path, default=os.environ.get("REDI_TEST_DATA", "../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.each = 25 if options.quick else 250
    with tempfile.TemporaryDirectory() as folder, ray_connection(RaySettings(num_cpus=4)):
        results = run(options, Path(folder))
    for name, found in results.items():
        dropped = f"clean dropped {found['clean_dropped']} of {found['clean']}"
        print(f"{name:6} removed {found['removed']} of {found['planted']}, {dropped}")
    print(json.dumps({**results["ours"], "plain": results.get("plain")}))


if __name__ == "__main__":
    main()
