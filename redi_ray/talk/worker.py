"""The process that holds models for others: `python -m redi_ray.talk.worker`. A line of JSON in, a line of JSON out.

In: {"run": URI, "models": [NAME], "histories": {NAME: messages}, "question": TEXT, "problem": ID or null, "settings": {...}};
settings may hold `temperature`, `top_p`, `max_tokens` and `seed`, the rest is the run's. Out: {"question", "problem", "answer",
"said": [{"model", "text", "verdict", ...}], "histories"} or {"error": TEXT}. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import Any

from redi_ray.cluster.runtime import quiet_transformers
from redi_ray.errors import UserError
from redi_ray.talk.answer import AskSettings
from redi_ray.talk.conversation import Conversation
from redi_ray.talk.known import KnownProblems
from redi_ray.talk.models import find_speakers


def reply(asked: dict[str, Any]) -> dict[str, Any]:
    """One question, answered. Raises UserError."""
    models = find_speakers(asked["run"], asked["models"])
    config = models[0].config
    settings = replace(AskSettings.of(config.evaluate), **asked.get("settings", {}))
    with KnownProblems(models[0].run_uri, config) as known:
        conversation = Conversation(models, known, settings)
        conversation.histories |= asked.get("histories", {})
        problem = asked.get("problem")
        found = conversation.ask_problem(problem) if problem else conversation.ask(asked["question"])
    return {
        "question": found.question,
        "problem": found.problem and found.problem.problem_id,
        "answer": found.problem and found.problem.answer,
        "said": [said.plain(found.question, found.problem) for said in found.said],
        "histories": conversation.histories,
    }


def main() -> None:
    quiet_transformers()
    replies = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin.buffer:
        try:
            told = reply(json.loads(line))
        except UserError as error:
            told = {"error": str(error)}
        except Exception as error:  # of a model's own code, of memory: the next question may fare better
            told = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(os.dup(replies), "wb") as out:
            out.write(json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    main()
