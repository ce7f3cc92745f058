"""What the columns are: by their names, in several languages, and where these say nothing by what stands in them.

Nothing here is certain. Every guess has its reason in words, and the user's word (`--column ROLE=COLUMN`) comes before all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from redi_ray.starter.columns import Column
from redi_ray.starter.head import StartError

NAMES: dict[str, tuple[str, ...]] = {
    "chosen": ("chosen", "chosen_response", "preferred", "winner", "better"),
    "rejected": ("rejected", "rejected_response", "dispreferred", "loser", "worse"),
    "messages": ("messages", "conversations", "conversation", "chat", "dialog", "dialogue"),
    "problem": (
        "problem", "question", "prompt", "instruction", "query", "input", "problem_statement", "question_text", "task", "q",
        "frage", "aufgabe", "pregunta", "problema", "probleme", "enonce", "domanda", "pergunta",
        "\u95ee\u9898", "\u9898\u76ee", "\u554f\u984c", "\u8cea\u554f", "\u9898", "\u0432\u043e\u043f\u0440\u043e\u0441",
        "\u0437\u0430\u0434\u0430\u0447\u0430", "\uc9c8\ubb38", "\ubb38\uc81c",
    ),
    "trace": (
        "completion", "response", "generation", "output", "trace", "model_output", "prediction", "completions", "responses",
        "generations", "outputs", "traces", "samples", "model_solution", "attempt", "chain_of_thought",
    ),
    "solution": (
        "solution", "reference_solution", "explanation", "rationale", "worked_solution", "loesung", "losung", "solucion",
        "soluzione", "solucao", "\u89e3\u6790", "\u89e3\u7b54", "\u0440\u0435\u0448\u0435\u043d\u0438\u0435", "\ud480\uc774",
    ),
    "answer": (
        "answer", "final_answer", "gold", "ground_truth", "gt", "reference_answer", "reference", "expected_answer", "target",
        "gold_answer", "correct_answer", "antwort", "respuesta", "reponse", "risposta", "resposta",
        "\u7b54\u6848", "\u7b54\u3048", "\u56de\u7b54", "\u043e\u0442\u0432\u0435\u0442", "\uc815\ub2f5", "\ub2f5",
    ),
    "label": (
        "label", "is_correct", "correct", "correctness", "passed", "success", "verdict", "is_right", "judgement", "richtig",
        "correcto",
    ),
    "reward": ("reward", "rewards", "scores"),
    "reasoning": ("reasoning", "reasoning_content", "thinking", "thought", "think"),
    "tools": ("tools", "functions"),
    "finish_reason": ("finish_reason", "finish_reasons"),
    "source": ("source", "data_source", "dataset"),
    "problem_id": ("problem_id", "question_id", "prompt_id", "id", "uuid", "idx", "index"),
}  # fmt: skip
"""Usual names of what a set may have, the likeliest first."""
KINDS: dict[str, tuple[str, ...]] = {
    "chosen": ("text", "chat"), "rejected": ("text", "chat"), "messages": ("chat",), "problem": ("text", "chat"),
    "trace": ("text", "texts", "chat", "list"), "solution": ("text",), "answer": ("text", "number", "truth", "texts", "list"),
    "label": ("truth", "number", "text", "list"), "reward": ("number", "list", "text"), "reasoning": ("text", "texts"),
    "tools": ("list", "text"), "finish_reason": ("text", "texts"), "source": ("text",), "problem_id": ("text", "number"),
}  # fmt: skip
"""What a column must hold to be that."""
ROLES = tuple(NAMES)
GOLD_MARK = re.compile(r"####|\\boxed\s*\{")
SHORT = 40
"""Characters up to which a text may be a bare answer."""
MOSTLY = 0.7
"""Share of the values that must speak for a guess by content."""
RARE = 0.5
"""A column that fewer rows have is told as one that not all have."""


NUMBER = re.compile(r"[-+$\u20ac]?\$?\\?[\d(][\d.,/ %^(){}a-z\\+*-]{0,20}\$?", re.IGNORECASE)
"""A number, or a short expression that begins with one."""
ABOUT = re.compile(
    r"(^|_)(id|idx|index|uuid|level|difficulty|year|number|count|length|len|type|category|score|step|error|version)s?$"
)
"""Ends the names of columns that say something about a row."""


@dataclass(frozen=True)
class Guess:
    """That a column is something."""

    column: str
    why: str
    others: tuple[str, ...] = ()
    """More of the same: traces may lie in several columns."""

    @property
    def columns(self) -> list[str]:
        return [self.column, *self.others]


Guesses = dict[str, Guess]


def guess(columns: Mapping[str, Column], given: Mapping[str, str]) -> Guesses:
    """Role -> which column it is and why. given: what the user says. Raises StartError for a column that is not there."""
    found: Guesses = {}
    for role, path in given.items():
        if role not in ROLES:
            raise StartError(
                f"--column {role}={path}: {role} is nothing that is looked for; there are {', '.join(ROLES)}"
            )
        if path not in columns:
            raise StartError(f"--column {role}={path}: no row has it; there are {', '.join(columns)}")
        found[role] = Guess(path, "as you say")
    for role, names in NAMES.items():
        if role not in found and (named := _by_name(role, names, columns, found)) is not None:
            found[role] = named
    return by_content(columns, found)


def _by_name(role: str, names: tuple[str, ...], columns: Mapping[str, Column], found: Guesses) -> Guess | None:
    """The first column with such a name that holds such values; a nested one only by its whole path's last name."""
    taken = {guess.column for guess in found.values()}
    plain: dict[str, list[Column]] = {}
    for path, column in columns.items():
        if column.values and path not in taken:
            plain.setdefault(bare(path.rpartition(".")[2]), []).append(column)
    for name in names:
        for column in sorted(plain.get(name, []), key=lambda one: one.path.count(".")):
            if column.kind in KINDS[role]:
                return Guess(column.path, f"its name; {column.kind}")
    return None


def bare(name: str) -> str:
    """A name without case, accents and what joins its words: `Final Answer` and `finalAnswer` are `final_answer`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    letters = unicodedata.normalize("NFKD", words.replace("\u00df", "ss"))
    text = "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", text)).strip("_")


def by_content(columns: Mapping[str, Column], found: Guesses) -> Guesses:
    """The same with what the names leave open, and without names that what stands there contradicts."""
    found = _several_traces(columns, _solution_or_answer(columns, dict(found)))
    if found.keys() & {"messages", "chosen"}:
        return found
    taken = {path for guess in found.values() for path in guess.columns}
    if "problem" in found and found["problem"].column == "instruction":
        taken.add("input")  # Alpaca's form: what the instruction is about, however short, and no answer
    left = [
        column for path, column in columns.items() if path not in taken and "." not in path and column.filled > RARE
    ]
    for role, tell in CONTENT.items():
        if role in found or (role == "solution" and "trace" in found) or (role == "answer" and "solution" in found):
            continue
        for column in left:
            if column.path not in {guess.column for guess in found.values()} and (why := tell(column)):
                found[role] = Guess(column.path, why)
                break
    return found


def _solution_or_answer(columns: Mapping[str, Column], found: Guesses) -> Guesses:
    """Worked solutions are often called answers (GSM8K), and bare answers solutions or outputs."""
    answer, solution, trace = (found.get(role) for role in ("answer", "solution", "trace"))
    if answer is not None and answer.why != "as you say" and solution is None:
        column = columns[answer.column]
        if column.kind == "text" and column.share(GOLD_MARK.search) >= MOSTLY:
            mark = "####" if column.share(lambda text: "####" in text) >= MOSTLY else "\\boxed"
            why = f"{column.share(GOLD_MARK.search):.0%} of them end in an answer behind {mark}"
            found["solution"] = Guess(answer.column, why)
            del found["answer"]
    for role, one in (("solution", solution), ("trace", trace)):
        if one is None or one.why == "as you say" or found.keys() & {"answer", "label", "reward"}:
            continue
        if _is_answer(columns[one.column]):
            found["answer"] = Guess(one.column, f"{one.why}, and short: {_is_answer(columns[one.column])}")
            del found[role]
    return found


def _several_traces(columns: Mapping[str, Column], found: Guesses) -> Guesses:
    """Solutions of several models stand beside each other, each with what else is known of it in an object."""
    for role in ("trace", "solution"):
        one = found.get(role)
        if one is None or one.why == "as you say" or "." not in one.column:
            continue
        name = one.column.rpartition(".")[2]
        same = [path for path in columns if path.endswith(f".{name}") and path.count(".") == one.column.count(".")]
        if len(same) > 1:
            found.pop(role)
            found["trace"] = Guess(same[0], f"{len(same)} objects have a `{name}`", tuple(same[1:]))
            label = found.get("label")
            beside = [f"{path.rpartition('.')[0]}.{label.column.rpartition('.')[2]}" for path in same] if label else []
            if label and all(path in columns for path in beside):
                found["label"] = Guess(beside[0], f"{label.why}, beside each", tuple(beside[1:]))
    return found


def _is_answer(column: Column) -> str:
    if ABOUT.search(bare(column.path)):
        return ""
    if column.kind == "number":
        return "numbers"
    if column.kind != "text" or column.share(lambda text: len(text) <= SHORT and "\n" not in text) < MOSTLY:
        return ""
    numbers = column.share(lambda text: NUMBER.fullmatch(text.strip()))
    return f"{numbers:.0%} of them are numbers or short expressions" if numbers >= MOSTLY else ""


def _are_traces(column: Column) -> str:
    long = column.kind == "texts" and max(column.lengths) > 2 * SHORT
    return "lists of long texts" if long and "step" not in bare(column.path) else ""


def _is_problem(column: Column) -> str:
    if column.kind != "text" or max(column.lengths) <= SHORT:
        return ""
    asked = column.share(lambda text: re.search(r"[?\uff1f\u061f]\s*$", text))
    return f"{asked:.0%} of its texts end with a question mark" if asked >= RARE else ""


def _is_solution(column: Column) -> str:
    marked = column.share(GOLD_MARK.search) if column.kind == "text" else 0.0
    return f"{marked:.0%} of its texts have an answer behind #### or in \\boxed" if marked >= MOSTLY else ""


CONTENT: dict[str, Callable[[Column], str]] = {
    "messages": lambda column: "its values are chats: lists of role and content" if column.kind == "chat" else "",
    "trace": _are_traces,
    "problem": _is_problem,
    "solution": _is_solution,
    "answer": _is_answer,
}
"""What a column is by what stands in it; the reason, or nothing."""
