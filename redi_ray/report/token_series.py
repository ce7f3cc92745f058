"""Numbers for each token of one row: what a training weighs them, what steps have said of them, how likely models find them.

Tokens and weights are those that training reads (`redi_ray.stages.encoding`), log-probs those of the pass that trains
(`redi_ray.train.token_scores`). This loads a tokenizer, and with it torch, so a process that is to stay small has it done by
another one (`python -m redi_ray.report.token_series`, which `redi_ray.ui.token_jobs` starts).
"""

from __future__ import annotations

import json
import select
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TextIO

import numpy as np
import yaml

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import parse_config
from redi_ray.errors import UserError
from redi_ray.pipeline.rounds import written
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.teachers import overrides_of
from redi_ray.report.token_values import weights_of
from redi_ray.stages.encoding import Encoder, weighting_of
from redi_ray.stages.groups import TO_GROUP, Learnt, groups_of
from redi_ray.store import storage
from redi_ray.store.manifests import current_manifest
from redi_ray.text.prompts import to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.tokens import Encoded, places_in
from redi_ray.text.turns import encode_turns

TOKENS, WEIGHT, LOGP, COLUMN = "tokens", "weight", "logp", "column"
"""Kinds of series; all but the first with the step that they are of behind a colon."""
MOST_TOKENS, MOST_CHARS = 20_000, 200_000
"""Of a row whose tokens are looked at."""
IDLE_SECONDS = 120
"""A process with nothing to do ends after so long."""
READY = "ready"
Series = list[list[float | None]]
"""Member -> a number for each of the model's own tokens."""


class NoTokens(UserError):
    """The tokens of a row cannot be shown; the message says why."""


def members_of(row: Mapping[str, Any], table: str, config: ExperimentConfig, tokenizer: Any) -> dict[str, Any]:
    """A row of any table as a group (`redi_ray.schemas.GROUP`); a trace as a group of one."""
    if table in TO_GROUP:
        return TO_GROUP[table](row)  # type: ignore[index]
    from redi_ray.stages.model_shards import SampleEncoder

    turns = SampleEncoder(tokenizer, config.model.prompt, None).turns(row)
    finished = row.get("finish_reason") not in ("length", "loop", "unfinished") and turns[-1]["role"] == "assistant"
    prompt = to_messages(row["problem"], config.model.prompt)
    member = {"turns": turns, "side": 1, "reward": None, "finished": finished, "spans": None}
    return {"group_id": row["trace_id"], "problem_id": row["problem_id"], "prompt": prompt, "members": [member]}


class Reader:
    """The tokens of a run's rows, by its base model's tokenizer."""

    def __init__(self, run: str) -> None:
        """Raises a UserError where the run has no tokenizer yet."""
        from redi_ray.modeling.tokenizer import load_tokenizer

        self.run = run
        self.config = parse_config(yaml.safe_load(storage.read_bytes(storage.join(run, "config.yaml"))))
        self.graph = graph_of(self.config)
        base = current_manifest(run, "checkpoints/base").facts["export"]
        self.tokenizer = load_tokenizer(base, self.config.model.overrides.trust_remote_code)
        if not self.tokenizer.is_fast:
            raise NoTokens(f"{base}: its tokenizer cannot tell where its tokens lie in the text (it is no fast one)")

    def encoded(self, group: Mapping[str, Any]) -> list[Encoded]:
        """The members' sequences. Raises NoTokens."""
        said = [turn["content"] for member in group["members"] for turn in member["turns"]]
        if (length := sum(map(len, said))) > MOST_CHARS:
            raise NoTokens(
                f"this row has {length:,} characters, more than the {MOST_CHARS:,} whose tokens are looked at here"
            )
        try:
            found = [
                encode_turns(
                    group["prompt"],
                    member["turns"],
                    self.tokenizer,
                    self.config.model.prompt,
                    finished=finished(member),
                )
                for member in group["members"]
            ]
        except ValueError as error:
            raise NoTokens(f"this row cannot be encoded as training would: {error}") from error
        if (size := sum(len(one.input_ids) for one in found)) > MOST_TOKENS:
            raise NoTokens(f"this row has {size:,} tokens, more than the {MOST_TOKENS:,} that are looked at here")
        return found

    def tokens(self, group: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Of each member its turns, and `[turn, start, end]` of each of its own tokens; -1, -1 for one without characters, which
        closes a turn."""
        told = []
        for member, sequence in zip(group["members"], self.encoded(group), strict=True):
            places = list[list[int]]()
            for turn in sequence.own:
                text = member["turns"][turn.number]["content"]
                within = places_in(text, self.tokenizer, self.config.model.prompt)
                places += [[turn.number, start, end] for start, end in within]
                places += [[turn.number, -1, -1]] if turn.closed else []
            told.append({"turns": member["turns"], "places": places})
        return told

    def weights(self, training: str, row: Mapping[str, Any], table: Learnt) -> Series:
        """What a training weighs the tokens, negative on the rejected side. Raises NoTokens for a row that it leaves out."""
        recipe = self.graph[training].settings
        groups = groups_of(row, table, recipe.reads)
        if isinstance(groups, str):
            raise NoTokens(f"{training} does not learn from this row: {groups}")
        weighting = weighting_of(
            recipe.settings, chosen_only=recipe.reads == "examples", objective=recipe.objective.name
        )
        encoder = Encoder(self.tokenizer, self.config.model.prompt, weighting)
        whole = TO_GROUP[table](row)
        found: Series = [[None] * int(own_weights(one).sum()) for one in self.encoded(whole)]
        left = list(range(len(whole["members"])))
        for group in groups:
            try:
                sequences = encoder.group(group)
            except ValueError as error:
                raise NoTokens(f"{training} cannot learn from this row: {error}") from error
            for member, sequence, encoded in zip(group["members"], sequences, self.encoded(group), strict=True):
                at = next(n for n in left if _same(whole["members"][n], member))
                left.remove(at)
                found[at] = (sequence.weights * sequence.side)[own_weights(encoded) != 0].tolist()
        return found

    def logps(self, model: str, export: str, group: Mapping[str, Any]) -> Series:
        """The log-probs of a model (nats). Raises NoTokens, or a UserError of the model."""
        import torch

        from redi_ray.modeling.limits import longest_sequence
        from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
        from redi_ray.stages.model_shards import at_hand
        from redi_ray.train.token_scores import by_logps, score_tokens

        trusted = self.config.model.overrides.trust_remote_code
        theirs = tokenizer_fingerprints(load_tokenizer(export, trusted))["tokenizer"]
        if theirs != tokenizer_fingerprints(self.tokenizer)["tokenizer"]:
            raise NoTokens(
                f"{model} has another tokenizer than this run's base model, so its log-probs are of other tokens"
            )
        sequences = self.encoded(group)
        with tempfile.TemporaryDirectory() as folder:
            policy = loaded(at_hand(export, folder), overrides_of(self.config, self.graph.steps, model))
        reach, longest = longest_sequence(policy.model.config), max(len(one.input_ids) for one in sequences)
        if reach is not None and longest > reach:
            raise NoTokens(f"{model} reaches over {reach:,} tokens, and this row has {longest:,}")
        own = [own_weights(one) for one in sequences]
        scores = score_tokens(
            by_logps(policy, 256),
            [(one.input_ids, one.prompt_length, weights) for one, weights in zip(sequences, own, strict=True)],
            unscored=float("nan"),
            tokens_per_pack=longest,
            device=torch.device("cpu"),
        )
        return [_plain(found[weights != 0]) for found, weights in zip(scores, own, strict=True)]

    def stored(self, column: str, values: Sequence[Sequence[float] | None], group: Mapping[str, Any]) -> Series:
        """What a column says, -1 to 1 as it is drawn. Raises NoTokens where it is not of these tokens."""
        found: Series = []
        for said, sequence in zip(values, self.encoded(group), strict=True):
            own = int(own_weights(sequence).sum())
            if said is not None and len(said) != own:
                raise NoTokens(f"{column} has {len(said)} numbers for the {own} tokens of this row")
            step = self.config.steps.get(written(column))
            found.append([None] * own if said is None else [*weights_of(step, said)])
        return found

    def answer(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Series of a row by name: its values, or `{"error": why not}`."""
        group = members_of(job["row"], job["table"], self.config, self.tokenizer)
        told = dict[str, Any]()
        for name, how in job["series"].items():
            kind, _, step = name.partition(":")
            try:
                if kind == TOKENS:
                    told[name] = self.tokens(group)
                elif kind == WEIGHT:
                    told[name] = self.weights(step, job["row"], job["table"])
                elif kind == LOGP:
                    told[name] = self.logps(step, how, group)
                else:
                    told[name] = self.stored(step, how, group)
            except (UserError, ValueError, OSError) as error:
                told[name] = {"error": str(error)}
        return told


def finished(member: Mapping[str, Any]) -> bool:
    """Whether the end of a turn follows a member's last one."""
    return member["finished"] is not False


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["side"] == other["side"] and one["turns"] == other["turns"]


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


@lru_cache(maxsize=1)
def loaded(folder: str, overrides: Any) -> Any:
    """One model is held at a time."""
    import torch

    from redi_ray.modeling.policy import load_policy

    return load_policy(folder, overrides, dtype=torch.float32).eval()


@lru_cache(maxsize=4)
def _reader(run: str, _config: str) -> Reader:
    return Reader(run)


def serve(asked: TextIO, told: TextIO) -> None:
    """Answer jobs, a line of JSON each, until there is none for a while."""
    while select.select([asked], [], [], IDLE_SECONDS)[0] and (line := asked.readline()):
        job = json.loads(line)
        try:
            config = storage.content_hash(storage.read_bytes(storage.join(job["run"], "config.yaml")).decode())
            answer = _reader(job["run"], config).answer(job)
        except (UserError, ValueError, OSError, KeyError) as error:
            answer = {name: {"error": str(error)} for name in job["series"]}
        told.write(json.dumps({READY: answer}) + "\n")
        told.flush()


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    serve(sys.stdin, out)
