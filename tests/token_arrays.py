"""Token arrays of a table, made in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redi_ray.config.prompts import PromptSettings
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.groups import Learnt
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts
from redi_ray.stages.tokenising import Tokenising, tokenise_part


def build_sequences(
    kind: Learnt,
    shards: Sequence[str],
    out_uri: str,
    tokenizer_path: str,
    prompt: PromptSettings,
    weighting: Weighting,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """What the stage makes of a table of the same kind: tokenise, and write `<out_uri>/arrays/*.npy`.

    Returns counts, what was dropped (`nothing_scored`: the weights leave one side nothing) and rejected, and a record of the
    first prompts.
    """
    how = Tokenising(kind, kind, out_uri, tokenizer_path, prompt, weighting, trust_remote_code)
    parts = plan_parts(shards)
    for part in parts:
        tokenise_part(part, how)
    return join_parts(parts, how)
