"""The message of a chat completion, in the shapes that servers give it. Pure.

Text comes as a string or as a list of chunks; reasoning stands in a field of its own (one of several names), in chunks of
the content, or in several of these places at once. A shape that is none of these is a BadShape: what it holds would be lost
without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TEXT_CHUNKS = frozenset({"text", "output_text", "input_text"})
THOUGHT_CHUNKS = frozenset(
    {"thinking", "reasoning", "thought", "think", "reasoning.text", "reasoning_text", "reasoning_content"}
)
SUMMARY_CHUNKS = frozenset({"summary", "summary_text", "reasoning.summary", "reasoning_summary"})
REFUSAL_CHUNKS = frozenset({"refusal"})
NO_TEXT = frozenset(
    {
        "reasoning.encrypted", "redacted_thinking", "reference", "tool_reference", "tool_use", "tool_call", "function",
        "server_tool_use", "citation", "annotation",
    }
)  # fmt: skip
"""Chunks that hold nothing to read."""
REASONING_FIELDS = (
    "reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_blocks", "reasoning_details"
)  # fmt: skip
"""Where a message may have its reasoning: vLLM has had two names; Ollama, LiteLLM and OpenRouter have others."""
INSIDE = ("text", "thinking", "reasoning", "content", "output_text", "value", "refusal", "summary")
"""Where an object has its text, the first that is there."""
MAX_NESTING = 6


class BadShape(ValueError):
    """A reply of a shape that nobody knows; the message says where."""


@dataclass(frozen=True)
class Said:
    """A message's parts, each "" where there is none."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""


def read_message(message: Any) -> Said:
    """What a message says. Raises BadShape."""
    if not isinstance(message, dict):
        raise BadShape(f"a message that is {type(message).__name__}")
    chunks = Chunks()
    chunks.add(message.get("content"), "content", TEXT_CHUNKS)
    apart = []
    for name in REASONING_FIELDS:
        found = Chunks()
        found.add(message.get(name) or None, name, THOUGHT_CHUNKS)  # some write {} or false for none
        apart.append(found.thought)
    refusal = Chunks()
    refusal.add(message.get("refusal"), "refusal", REFUSAL_CHUNKS)
    return Said(
        text="".join(chunks.text),
        reasoning="\n\n".join(distinct([*apart, chunks.thought])),
        refusal="".join(chunks.refusals + refusal.refusals),
    )


class Chunks:
    """The text of a field, by what its chunks are."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.refusals: list[str] = []
        self._thoughts: list[str] = []
        self._summaries: list[str] = []

    @property
    def thought(self) -> str:
        """The reasoning, or where that is kept secret its summary."""
        return "".join(self._thoughts) or "\n\n".join(self._summaries)

    def add(self, value: Any, where: str, kinds: frozenset[str], depth: int = 0) -> None:
        """Take up a string, a chunk or a list of them. kinds: what an untyped one is. Raises BadShape."""
        if value is None or value in ("", []):
            return
        if isinstance(value, str):
            self._of(kinds).append(value)
        elif isinstance(value, list) and depth < MAX_NESTING:
            for item in value:
                self.add(item, where, kinds, depth + 1)
        elif isinstance(value, dict) and depth < MAX_NESTING:
            self._add_chunk(value, where, kinds, depth)
        else:
            raise BadShape(f"{where} holds {type(value).__name__}")

    def _add_chunk(self, chunk: dict[str, Any], where: str, kinds: frozenset[str], depth: int) -> None:
        kind = "thought" if chunk.get("thought") is True else chunk.get("type")
        if isinstance(kind, str):
            if kind in NO_TEXT:
                return
            known = [names for names in (THOUGHT_CHUNKS, SUMMARY_CHUNKS, REFUSAL_CHUNKS) if kind in names]
            if not known and kind not in TEXT_CHUNKS:
                raise BadShape(f"{where} holds a chunk of type {kind[:50]!r}")
            kinds = known[0] if known else kinds  # a text within a thought is part of it
        filled = [name for name in INSIDE if chunk.get(name) not in (None, "", [])]
        if not filled and not any(name in chunk for name in INSIDE):
            raise BadShape(f"{where} holds an object with {', '.join(map(str, chunk))[:100] or 'nothing'}")
        if filled:
            if filled[0] == "summary" and kinds is THOUGHT_CHUNKS:
                kinds = SUMMARY_CHUNKS
            self.add(chunk[filled[0]], where, kinds, depth + 1)

    def _of(self, kinds: frozenset[str]) -> list[str]:
        if kinds is THOUGHT_CHUNKS:
            return self._thoughts
        if kinds is SUMMARY_CHUNKS:
            return self._summaries
        return self.refusals if kinds is REFUSAL_CHUNKS else self.text


def distinct(texts: Iterable[str]) -> list[str]:
    """The texts that no other one holds, white space aside: servers repeat the reasoning under several names."""
    found: list[tuple[str, str]] = []
    for text in texts:
        bare = "".join(text.split())
        if bare and not any(bare in other for other, _ in found):
            found = [(other, kept) for other, kept in found if other not in bare]
            found.append((bare, text))
    return [text for _, text in found]
