"""The sections of first configs: what is done with a set, by what it is."""

from __future__ import annotations

from collections.abc import Mapping

from redi_ray.starter.blocks import (
    REDI_RATE,
    SFT_RATE,
    TEMPLATE,
    WIDTH,
    Lines,
    commented,
    evaluation,
    flow,
    lengths,
    model_block,
    problems_block,
    seen,
    source_of,
    texts_of,
    train,
)
from redi_ray.starter.columns import shown
from redi_ray.starter.reading import Reading, flat, marks_of
from redi_ray.starter.student import Student

UNKNOWN_ANSWER = 3000
"""Bytes of the longest answer that a model is let write: more than worked solutions have."""


def traces_line(reading: Reading, student: Student) -> Lines:
    """Traces that come with their problems, through the standard line."""
    answers, asked = texts_of(reading, "trace"), texts_of(reading, "problem")
    if reading.what == "openr1":
        where = {name: value for name, value in source_of(reading).items() if name in ("paths", "dataset", "revision")}
        source = flow({"kind": "openr1", **where})
        lines = ["problems:", f"  source: {source}  # its own rules: problems that are marked valid, none of cn_k12"]
        verify = [
            "verify:",
            "  votes: [judge, math_verify]  # Llama's and Math-Verify's verdicts, as they come with the data",
            "  policy: paper                # correct only if both say so, anything else is wrong",
            "  reuse_votes: true            # false: Math-Verify is asked again",
        ]
    else:
        lines, verify = problems_block(reading), _verify(reading, answers)
    prompt, answer = lengths(student, answers, asked)
    lines += ["generate: {kind: import}  # the traces that come with the problems", *verify]
    return lines + _line(reading, student, prompt, answer)


def sampled_line(reading: Reading, student: Student) -> Lines:
    """Problems alone: the model's own traces, by vLLM."""
    answers = [*texts_of(reading, "solution"), "x" * UNKNOWN_ANSWER]
    prompt, answer = lengths(student, answers, texts_of(reading, "problem"))
    lines = [
        *problems_block(reading),
        "  # max_problems: 200          # to begin with",
        "generate:",
        "  kind: vllm                   # or endpoint, for a teacher that is served elsewhere",
        "  model: base                  # the student itself; a stronger teacher's path or hub name makes better traces",
        "  samples_per_round: 4",
        "  max_rounds: 2                # problems without a right trace get four more",
        "  temperature: 0.8",
        f"  max_tokens: {answer}",
        *_verify(reading, []),
    ]
    return lines + _line(reading, student, prompt, answer)


def _line(reading: Reading, student: Student, prompt: int, answer: int) -> Lines:
    """What the standard line does with verified traces."""
    length = prompt + answer
    return [
        f"curate: {{max_prompt_tokens: {prompt}, max_response_tokens: {answer}}}  # longer ones are left out, and counted",
        *model_block(reading, student),
        f"sft:  # stage 1: one right trace of each problem\n  train: {train(student, reading, SFT_RATE, 3, length)}",
        "redi:  # stage 2: pairs of a right and a wrong trace of one problem, from the model of stage 1",
        f"  train: {train(student, reading, REDI_RATE, 1, length)}",
        "  arms:",
        "    alpha0: {objective: {name: redi, alpha: 0.0}}  # the control: the same steps without negatives",
        "    redi: {objective: {name: redi, alpha: 0.2}}    # others: dpo, simpo, ipo, kto, ... (redi-ray config --schema)",
        *evaluation(),
    ]


def _verify(reading: Reading, answers: list[str]) -> Lines:
    """How answers are found in traces and references, where they stand behind a mark of the data's own."""
    gold = reading.guesses.get("answer") or reading.guesses["solution"]
    own = marks_of(answers)
    told = {
        "gold_extract": marks_of(flat(reading.columns[gold.column].values)),
        "extract": own if own != ["boxed"] else [],
    }
    settings = {name: marks for name, marks in told.items() if marks}
    if not settings:
        return [
            "# verify: {answers: {extract: [boxed, last_number]}}  # where the usual ways to state an answer find none"
        ]
    return ["verify:", f"  answers: {flow(settings)}  # what stands behind these marks"]


def imported_pairs(reading: Reading, student: Student) -> Lines:
    """Pairs that are learnt from as they are."""
    length = _imported_length(reading, student)
    return [
        *_steps(reading, "pairs"),
        "  alpha0: {do: train, from: base, on: pairs, objective: {name: redi, alpha: 0.0}}  # the control: without negatives",
        "  redi: {do: train, from: base, on: pairs, objective: {name: redi, alpha: 0.2}}",
        "  # dpo: {do: train, from: base, on: pairs, objective: {name: dpo, beta: 0.1}}",
        *model_block(reading, student),
        f"redi:  # of all trainings on pairs\n  train: {train(student, reading, REDI_RATE, 1, length)}",
        *evaluation(),
    ]


def imported_answers(reading: Reading, student: Student) -> Lines:
    """Answers that are learnt, with labels or without."""
    length = _imported_length(reading, student)
    labelled = reading.what == "unpaired"
    objective = "{name: kto, beta: 0.1}" if labelled else "{name: sft}"
    name, stage = ("kto", "redi") if labelled else ("sft", "sft")
    rate, epochs = (REDI_RATE, 1) if labelled else (SFT_RATE, 3)
    step = "tuned" if name == "sft" else name
    return [
        *_steps(reading, "answers"),
        f"  {step}: {{do: train, from: base, on: answers, objective: {objective}}}",
        *model_block(reading, student),
        f"{stage}:\n  train: {train(student, reading, rate, epochs, length)}",
        *evaluation(),
    ]


def imported_rewards(reading: Reading, student: Student) -> Lines:
    """Samples with rewards, several of a prompt."""
    length = _imported_length(reading, student)
    return [
        *_steps(reading, "samples"),
        "  advantage: {do: train, from: base, on: samples, objective: {name: advantage, baseline: leave_one_out}}",
        *model_block(reading, student),
        f"redi:  # of all trainings on groups\n  train: {train(student, reading, REDI_RATE, 1, length)}",
        *evaluation(),
    ]


def imported_steps(reading: Reading, student: Student) -> Lines:
    """Right and wrong solutions in steps."""
    length = _imported_length(reading, student)
    return [
        *_steps(reading, "solutions"),
        "  step_dpo: {do: train, from: base, on: solutions, objective: {name: dpo, beta: 0.5}}",
        *model_block(reading, student),
        f"redi:  # of all trainings on pairs\n  train: {train(student, reading, REDI_RATE, 1, length)}",
        *evaluation(),
    ]


def _steps(reading: Reading, name: str) -> Lines:
    """The step that imports the set, and how it is read."""
    assert reading.imported is not None
    settings = reading.imported
    lines = ["steps:", f"  {name}:", "    do: import", f"    source: {flow(source_of(reading))}"]
    for role, guess in reading.guesses.items():
        lines.append(commented(f"    # {role}: {shown(guess.column)}", f"{guess.why}; {seen(reading, guess.column)}"))
    if given := settings.columns.given:
        lines.append(f"    columns: {flow(given)}")
    if reading.what == "solutions":
        lines.append("    prompts: problems          # bare problems, put into model.prompt as an evaluation asks them")
    if settings.calls is not None:
        calls = {"form": settings.calls.form, "told": settings.calls.told, "column": settings.calls.column}
        lines.append(
            "    # The chats keep their calls beside the text (tool_calls): they are written into it, and what tools there are"
        )
        lines.append("    # into the system turn. Turns of tools are read, and never learnt.")
        lines.append(f"    calls: {flow(calls)}")
    return lines


def _imported_length(reading: Reading, student: Student) -> int:
    """Most tokens of a sequence, prompt and answer together."""
    return student.room(student.tokens(reading.longest) + TEMPLATE)


def write(reading: Reading, name: str, did: str, how: Lines, data: str, others: Mapping[str, str]) -> str:
    """The whole YAML. name: of the run; did: what the recipe does; data: as the user has named it; others: recipes that fit."""
    left = f", {sum(reading.left_out.values())} of them cannot be used" if reading.left_out else ""
    head = [
        f"# Made by `redi-ray init {shown(data, WIDTH)}` from {reading.head.told}{left}.",
        f"# What it does: {did}.",
        *(f"# Another way, `--recipe {one}`: {does}." for one, does in others.items()),
        f"name: {flow(name)}",
    ]
    return "\n".join([*head, *how]) + "\n"
