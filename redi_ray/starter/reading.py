"""From what columns are to what a set is, tried out on the rows that were looked at: how many of them a run could use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from redi_ray.config.data import Columns, OpenR1Source
from redi_ray.config.import_parts import WrittenCalls
from redi_ray.config.imports import ImportColumns, ImportSettings
from redi_ray.config.prompts import THINK, PromptSettings
from redi_ray.data.sources.chats import as_chat, calls_of
from redi_ray.data.sources.import_answers import LeftOut
from redi_ray.data.sources.import_rows import RowReader
from redi_ray.data.sources.rows import OPENR1_VERDICTS, Parsed, parse_columns, parse_openr1
from redi_ray.data.sources.shapes import Layout, layout_of, recognised
from redi_ray.starter.columns import Column, columns_of
from redi_ray.starter.guess import Guess, Guesses, guess
from redi_ray.starter.head import Head, StartError

What = Literal["openr1", "traces", "problems", "solutions", "preference", "sft", "unpaired", "rollouts", "steps"]
TOLD: dict[What, str] = {
    "openr1": "OpenR1-Math-Raw: problems with DeepSeek-R1's traces and two verdicts of each",
    "traces": "problems with reference answers and traces that can be verified",
    "problems": "problems with reference answers",
    "solutions": "problems with worked solutions",
    "preference": "pairs of a better and a worse answer",
    "sft": "answers to learn from",
    "unpaired": "answers with a label, right or wrong",
    "rollouts": "samples with rewards",
    "steps": "right and wrong solutions in steps",
}
PLAIN = PromptSettings(prefix="")


@dataclass(frozen=True)
class Reading:
    """What a set is, and how a run reads it."""

    head: Head
    columns: Mapping[str, Column]
    guesses: Guesses
    what: What
    source: Columns | None = None
    """Of problems: which column is what."""
    imported: ImportSettings | None = None
    """Of a set that is learnt from as it is."""
    layout: Layout | None = None
    prompt: PromptSettings = PLAIN
    """With `<think>` where all answers begin so."""
    longest: int = 0
    """Bytes of the longest prompt and answer that are learnt from as they are, together."""
    usable: int = 0
    """Of the rows that were looked at."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why others are not, and how many."""
    first: Mapping[str, str] = field(default_factory=dict)
    """Of each reason the first, in words."""

    @property
    def answers(self) -> list[str]:
        """The texts that would be learnt from, as far as they are columns of text."""
        paths = [path for role in ("trace", "solution", "chosen", "completion") if role in self.guesses
                 for path in self.guesses[role].columns]  # fmt: skip
        return [text for path in paths for text in flat(self.columns[path].values)]


def flat(values: list[Any]) -> list[str]:
    """The texts in values that are texts, or lists of them."""
    return [
        text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
    ]


def read(head: Head, given: Mapping[str, str]) -> Reading:
    """What the rows are. given: role -> column, as the user says. Raises StartError where that cannot be told, or no row fits."""
    columns = columns_of(head.rows)
    guesses = guess(columns, given)
    if is_openr1(head.rows):
        seen = Reading(
            head, columns, _named(columns, "generations", "correctness"), "openr1", prompt=_thinking(head.rows)
        )
        return _tried(seen)
    layout = None if given else recognised(head.rows)
    whole = layout is not None and layout.shape in ("preference", "steps")
    if {"problem", "answer", "trace"} <= guesses.keys() and not whole:
        return _tried(_of_problems(head, columns, guesses, "traces"))
    judged = layout is not None and layout.shape == "sft" and bool({"label", "reward"} & guesses.keys())
    solved = layout is not None and layout.shape == "sft" and guesses.keys().isdisjoint({"messages", "trace"})
    if layout is not None and not judged and not (solved and "solution" in guesses):
        return _imported(head, columns, guesses, ImportSettings(source=head.source, calls=_calls(head.rows)))
    return _by_guesses(head, columns, guesses)


def _by_guesses(head: Head, columns: Mapping[str, Column], found: Guesses) -> Reading:
    """Sets whose columns have other names than the usual ones."""
    role: dict[str, str] = {name: guess.column for name, guess in found.items()}
    more: dict[str, str] = {
        name: role[name] for name in ("reward", "label", "reasoning", "finish_reason") if name in role
    }
    more = {name: path for name, path in more.items() if name != "label" or "reward" not in more}
    if "chosen" in role and "rejected" in role:
        told = {"chosen": role["chosen"], "rejected": role["rejected"]}
        told |= {"prompt": role["problem"]} if "problem" in role else {}
    elif "messages" in role:
        told = {"messages": role["messages"], **more}
    elif "problem" in role and "trace" in role:
        told = {"prompt": role["problem"], "completion": role["trace"], **more}
    elif "problem" in role and "solution" in role:
        return _tried(_of_problems(head, columns, found, "solutions"))
    elif "problem" in role and "answer" in role:
        return _tried(_of_problems(head, columns, found, "problems"))
    else:
        raise StartError(_what_lacks(head, columns, found))
    settings = ImportSettings(source=head.source, columns=ImportColumns(**told), calls=_calls(head.rows))
    return _imported(head, columns, found, settings)


def _what_lacks(head: Head, columns: Mapping[str, Column], found: Guesses) -> str:
    seen = "; ".join(
        f"{path} ({column.told}, such as {column.sample!r})" for path, column in list(columns.items())[:12]
    )
    known = ", ".join(f"{guess.column} as {role}" for role, guess in found.items()) or "nothing"
    needs = (
        "a config needs `messages`, or `chosen` and `rejected`, or `problem` with one of `answer`, `solution`, `trace`"
        if "problem" not in found or len(found) > 1
        else "there are problems, but nothing that answers them: `answer` to sample and verify, `trace` or `solution` to learn"
    )
    told = f"{head.told} do not tell what this is: {seen}. Recognised: {known}; {needs}"
    return f"{told}. Say which is which: --column problem=COLUMN"


def _of_problems(head: Head, columns: Mapping[str, Column], found: Guesses, what: What) -> Reading:
    """Problems with reference answers, which a worked solution holds where no column has them."""
    several = {
        role: found[role].columns for role in ("trace", "label", "reasoning") if role in found and what == "traces"
    }
    lists = {role: paths if len(paths) > 1 else paths[0] for role, paths in several.items()}
    gold = found.get("answer") or found["solution"]
    told = Columns(
        problem=found["problem"].column,
        answer=gold.column,
        problem_id=found["problem_id"].column if "problem_id" in found else None,
        source=found["source"].column if "source" in found else None,
        completion=lists.get("trace"),
        reasoning=lists.get("reasoning"),
        label=lists.get("label"),
        finish_reason=found["finish_reason"].column if "finish_reason" in found and "trace" in lists else None,
    )
    read = found["solution"].columns if what == "solutions" else several.get("trace", [])
    texts = [text for path in read for text in flat(columns[path].values)]
    learnt = None
    if what == "solutions":
        asked = ImportColumns(prompt=found["problem"].column, completion=found["solution"].column)
        learnt = ImportSettings(source=head.source, columns=asked)
    return Reading(head, columns, found, what, source=told, imported=learnt, prompt=prompt_of(texts))


def _imported(head: Head, columns: Mapping[str, Column], found: Guesses, settings: ImportSettings) -> Reading:
    layout = layout_of(settings, head.rows, "DATA")
    told = {
        name: Guess(path, f"{_why(settings, found, path)}{_form(layout, name)}")
        for name, path in layout.columns.items()
    }
    if settings.calls is not None and settings.calls.column in columns:
        told["tools"] = Guess(settings.calls.column, "its name; what the chats' calls are of")
    seen = Reading(head, columns, told, layout.shape, imported=settings, layout=layout)
    texts = [
        text
        for name in ("completion", "chosen")
        if name in layout.columns
        for text in flat(_values(columns, layout, name))
    ]
    return _tried(replace(seen, prompt=prompt_of(texts or _answers_of_chats(head.rows, layout))))


def _values(columns: Mapping[str, Column], layout: Layout, name: str) -> list[Any]:
    column = columns.get(layout.columns[name])
    return [] if column is None else column.values


def _why(settings: ImportSettings, found: Guesses, path: str) -> str:
    given = {guess.column: guess.why for guess in found.values()}
    return given.get(path, "its name") if settings.columns.given else "its name"


def _form(layout: Layout, name: str) -> str:
    return f"; {layout.forms[name]}" if name in layout.forms else ""


def _answers_of_chats(rows: list[dict[str, Any]], layout: Layout) -> list[str]:
    chats = [as_chat(row.get(layout.columns.get("messages", layout.columns.get("chosen", "")))) or [] for row in rows]
    return [str(chat[-1].get("content") or chat[-1].get("value") or "") for chat in chats if chat]


def _calls(rows: list[dict[str, Any]]) -> WrittenCalls | None:
    """How calls are written, where some chat keeps calls beside its text."""
    chats = [chat for row in rows for value in row.values() if (chat := as_chat(value)) is not None]
    return WrittenCalls() if any(calls_of(turn) for chat in chats for turn in chat) else None


def prompt_of(texts: list[str]) -> PromptSettings:
    """The prompt behind which such answers stand: a thought is opened where all of them open one."""
    return PromptSettings() if texts and all(text.lstrip().startswith(THINK) for text in texts) else PLAIN


def is_openr1(rows: list[dict[str, Any]]) -> bool:
    """Whether the rows have OpenR1-Math-Raw's columns: generations and lists of verdicts of each."""
    return any(isinstance(row.get("generations"), list) and isinstance(row.get("correctness"), dict)
               and OPENR1_VERDICTS.keys() <= row["correctness"].keys() for row in rows)  # fmt: skip


def _named(columns: Mapping[str, Column], trace: str, label: str) -> Guesses:
    why = "OpenR1-Math-Raw's own name"
    roles = {"problem": "problem", "answer": "answer", "trace": trace, "label": label}
    roles |= {"problem_id": "uuid", "source": "source"}
    return {role: Guess(path, why) for role, path in roles.items() if path in columns}


def _thinking(rows: list[dict[str, Any]]) -> PromptSettings:
    return prompt_of(flat([row.get("generations") for row in rows]))


def _tried(reading: Reading) -> Reading:
    """The same with how many rows a run can use. Raises StartError where it could use none."""
    reasons, first, usable, longest = Counter[str](), dict[str, str](), 0, 0
    for row in reading.head.rows:
        try:
            longest = max(longest, _use(reading, row))
            usable += 1
        except LeftOut as error:
            reasons[error.reason] += 1
            first.setdefault(error.reason, str(error))
    if not usable:
        told = "; ".join(f"{count} {reason}: {first[reason]}" for reason, count in reasons.most_common(3))
        raise StartError(
            f"read as {TOLD[reading.what]}, none of {reading.head.told} can be used ({told}). Name the columns: --column "
            "problem=COLUMN, answer=, solution=, trace=, messages=, chosen=, rejected=, label= or reward="
        )
    return replace(reading, usable=usable, left_out=reasons, first=first, longest=longest)


def _use(reading: Reading, row: dict[str, Any]) -> int:
    """Bytes that a run would learn from a row, 0 where that is not known before verification. Raises LeftOut."""
    size = 0
    if reading.imported is not None:
        layout = reading.layout or layout_of(reading.imported, reading.head.rows, "DATA")
        found = RowReader(layout, reading.imported, reading.prompt)(row)
        size = _bytes(found.prompt) + max(_bytes(member.turns) for member in found.members)
    if reading.source is None and reading.what != "openr1":
        return size
    parsed = parse_openr1(row, OpenR1Source()) if reading.source is None else parse_columns(row, reading.source)
    if not isinstance(parsed, Parsed):
        raise LeftOut(parsed.reason, parsed.detail)
    if reading.what in ("traces", "openr1") and not parsed.traces:
        raise LeftOut(*(parsed.refused_traces or [("no_traces", "the row has no trace")])[0])
    return size


def _bytes(turns: list[dict[str, str]]) -> int:
    return sum(len(turn["content"].encode()) for turn in turns)


def marks_of(texts: list[str]) -> list[str]:
    """Extractors that find the answer in most of these texts, for `verify.answers`; none where the usual ones are meant.

    `####`, a box, or a mark of the data's own that begins the last line of nearly all of them (`A: 42`).
    """
    if not texts:
        return []
    ends = [text.strip().rpartition("\n")[2] for text in texts]
    marked = Counter(found[0] for end in ends if (found := re.match(r"[^\W\d][\w ]{0,20}[:=]", end)))
    if sum("####" in text for text in texts) > 0.9 * len(texts):
        return ["after:####"]
    if marked and marked.most_common(1)[0][1] > 0.9 * len(texts):
        return [f"after:{marked.most_common(1)[0][0]}"]
    return ["boxed"] if sum("\\boxed" in text for text in texts) > 0.9 * len(texts) else []
