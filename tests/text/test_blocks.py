"""Output blocks become a tool's turns, nothing else does, and no character but white space between turns is lost."""

from __future__ import annotations

from redi_ray.text.blocks import split_blocks, with_blocks_apart

CODE = "I add.\n```python\nprint(12 + 30)\n```"
OUTPUT = "```output\n42\n```"


def turns(text: str) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in split_blocks(text)]


def test_code_and_its_output_are_turns():
    last = "So 42.\n\n```python\nprint(42 * 2)\n```"
    found = turns(f"{CODE}\n\n{OUTPUT}\n\n{last}\n{OUTPUT}\n{OUTPUT}\n\\boxed{{84}}")
    assert found == [
        ("assistant", CODE), ("tool", OUTPUT), ("assistant", last), ("tool", OUTPUT), ("tool", OUTPUT),
        ("assistant", "\\boxed{84}"),
    ]  # fmt: skip


def test_what_no_code_stands_before_is_the_models_own():
    for text in (
        OUTPUT,
        f"It would print:\n{OUTPUT}",
        f"{CODE}\nwhich gives\n{OUTPUT}",
        f"```python\n{OUTPUT}",
        "no block",
        "",
    ):
        assert turns(text) == [("assistant", text)]


def test_an_output_that_is_not_closed_goes_to_the_end_and_one_may_hold_a_fence_with_a_word():
    assert turns(f"{CODE}\n```output\n4") == [("assistant", CODE), ("tool", "```output\n4")]
    assert turns(f"{CODE}\n```output\n```python\n```\nso") == [
        ("assistant", CODE), ("tool", "```output\n```python\n```"), ("assistant", "so"),
    ]  # fmt: skip


def test_in_a_chat_a_users_turn_that_is_nothing_but_output_is_the_tools():
    chat = [{"role": "user", "content": OUTPUT}, {"role": "assistant", "content": f"{CODE}\n{OUTPUT}\nso"}]
    more = [{"role": "user", "content": f"\n{OUTPUT}\n"}, {"role": "user", "content": f"{OUTPUT} is odd"}]
    found = with_blocks_apart([*chat, *more])
    assert [turn["role"] for turn in found] == ["user", "assistant", "tool", "assistant", "tool", "user"]
    assert found[-2:] == [{"role": "tool", "content": f"\n{OUTPUT}\n"}, more[1]]
