"""Traces that do not begin as the prompt's prefix says: found before anything is spent on them, and told in words."""

from __future__ import annotations

from redi_ray import storage
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.readers import DataError
from redi_ray.text.prompts import strip_prefix

MOST = 0.9
"""Share of the chosen traces that are without the prefix from which on a run is refused: what is left is no data set."""
SHOWN = 40
"""Characters of a trace in a message."""


def check_beginnings(shards: list[str], prompt: PromptSettings) -> None:
    """Raise DataError if not one of the traces begins with the forced prefix. Reads until the first that does."""
    seen, example = 0, ""
    for table in storage.read_tables(shards, ["completion"]):
        for batch in table.to_batches():
            for text in batch["completion"].to_pylist():
                if strip_prefix(text, prompt) is not None:
                    return
                seen, example = seen + 1, example or text
    if seen:
        raise DataError(complaint(seen, seen, "traces", prompt, example))


def complaint(without: int, of: int, what: str, prompt: PromptSettings, example: str | None) -> str:
    """What to say of traces without the prefix, and how to mend it."""
    shown = f" (one begins {example[:SHOWN]!r})" if example else ""
    return (
        f"{without} of {of} {what} do not begin with the forced prefix {prompt.prefix!r}{shown}, and training needs it at the "
        "start of every one. Set model.prompt.prefix to what they begin with; for traces that do not think aloud that is "
        "nothing, on the command line 'model.prompt.prefix=\"\"'"
    )
