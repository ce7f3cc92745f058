"""Code and what running it printed, written into one text: apart again, as turns of the model's own and of the tool.

    I add them.                       assistant   I add them.\n```python\nprint(12 + 30)\n```
    ```python                         tool        ```output\n42\n```
    print(12 + 30)                    assistant   So it is 42.
    ```
    ```output
    42
    ```
    So it is 42.

An output block is the tool's only where it follows a closed block of code; elsewhere the model has written it. The fences stay,
so that nothing but white space between turns is lost, and a tool's turn reads as it did.
"""

from __future__ import annotations

from redi_ray.text.templates import ASSISTANT, TOOL, USER, Message

FENCE = "```"
OUTPUT = f"{FENCE}output"


def split_blocks(text: str) -> list[Message]:
    """The turns of a text, in order; one of the model's own where there is no output block. One that is not closed goes to the
    end of the text."""
    parts: list[tuple[str, list[str]]] = [(ASSISTANT, [])]
    in_code = in_output = after_code = False
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if in_output:
            parts[-1][1].append(line)
            if bare == FENCE:
                in_output, after_code = False, True  # another output of the same code may follow
                parts.append((ASSISTANT, []))
            continue
        if not in_code and after_code and bare == OUTPUT:
            in_output = True
            parts.append((TOOL, [line]))
            continue
        if in_code:
            in_code, after_code = bare != FENCE, bare == FENCE
        elif bare:
            in_code, after_code = bare.startswith(FENCE), False
        parts[-1][1].append(line)
    turns = [(role, "".join(lines)) for role, lines in parts]
    if len(turns) == 1:
        return [{"role": ASSISTANT, "content": text}]
    return [{"role": role, "content": said.strip("\r\n")} for role, said in turns if said.strip()]


def with_blocks_apart(turns: list[Message]) -> list[Message]:
    """The same chat with every output block a turn of the tool's: those in an answer, and those that a user's turn consists of,
    which is how a tool speaks where a template has no role for it."""
    found: list[Message] = []
    for turn in turns:
        said = turn["content"].strip()
        if turn["role"] == ASSISTANT:
            found += split_blocks(turn["content"])
        elif turn["role"] == USER and found and said.startswith(f"{OUTPUT}\n") and said.endswith(FENCE):
            found.append({"role": TOOL, "content": turn["content"]})
        else:
            found.append(turn)
    return found
