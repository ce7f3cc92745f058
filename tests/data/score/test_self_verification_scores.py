"""The parts of samples that verify themselves, their truth compared with the reference answer."""

from __future__ import annotations

import pyarrow as pa
from pydantic import TypeAdapter

from redi_ray.config.answers import VerifySettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import Scorer as Settings
from redi_ray.data.score import SCORERS
from redi_ray.data.score.scorer import Asked
from redi_ray.schemas import TRACE

RECHECK, AGAIN = "\n\nWait, let me recheck my solution.\n\n", "\n\nLet me try again.\n\n"


def boxed(answer: int) -> str:
    return f"So \\boxed{{{answer}}}."


TEXTS = {
    "finds its mistake": boxed(3) + RECHECK + "It is incorrect." + AGAIN + boxed(2) + RECHECK + "It is correct.",
    "goes on behind what is confirmed": boxed(2)
    + RECHECK
    + "It is correct."
    + AGAIN
    + boxed(3)
    + RECHECK
    + "It is correct.",
    "believes a mistake": boxed(3) + RECHECK + "It is correct.",
    "verifies nothing": boxed(2),
    "in turns": boxed(2) + RECHECK + "It is correct.",
}
SPANS = {
    "finds its mistake": [("R-", -1), ("V+", 1), ("R+ changed", 1), ("V+ of right", 1)],
    "goes on behind what is confirmed": [("R+", 1), ("V+ of right", 1)],
    "believes a mistake": [("R-", -1), ("V-", -1)],
    "verifies nothing": None,
    "in turns": None,
}


def test_each_part_has_its_truth():
    read = TypeAdapter(Settings).validate_python({"name": "self_verification"})
    turns = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    rows = [
        {"trace_id": name, "problem_id": "p", "problem": "1+1", "answer": "2", "sample_index": 0, "completion": text,
         "turns": turns if name == "in turns" else None}
        for name, text in TEXTS.items()
    ]  # fmt: skip
    values = SCORERS[read.name].start(read, Asked(PromptSettings(prefix=""), verify=VerifySettings()))
    found = values(pa.Table.from_pylist(rows, schema=TRACE))
    for (name, text), value in zip(TEXTS.items(), found, strict=True):
        spans = value["spans"]
        assert (spans and [(span["label"], span["value"]) for span in spans]) == SPANS[name], name
        for span in spans or ():
            said = text[span["start"] : span["end"]]
            assert said.startswith("So" if span["label"][0] == "R" else "It is")
    whole = read.model_copy(update={"at": "outcome"})
    values = SCORERS[read.name].start(whole, Asked(PromptSettings(prefix=""), verify=VerifySettings()))
    said = [value["value"] for value in values(pa.Table.from_pylist(rows, schema=TRACE))]
    assert said == [1, 1, -1, None, None], (
        "a text that is cut behind what is right is right, whatever comes behind that"
    )
