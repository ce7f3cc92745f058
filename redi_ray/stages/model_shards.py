"""Shards of samples looked at by actors that hold models: forward passes over packs. A shard is one piece of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redi_ray.cluster.capacity import require_room
from redi_ray.cluster.runtime import user_error
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.curate.answers import Answers, is_finished
from redi_ray.data.curate.work import finished
from redi_ray.modeling.limits import count_parameters
from redi_ray.schemas import turns_of
from redi_ray.stages.references import half_precision, require_gpu_memory
from redi_ray.store import storage
from redi_ray.text.prompts import to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.templates import Message, PromptError
from redi_ray.text.tokens import Encoded
from redi_ray.text.turns import encode_turns

TOO_LONG, NOT_ENCODABLE = "too_long_for_the_models", "not_encodable"
"""Why a sample has no values."""


class ShardActor(Protocol):
    """Holds models; made with the `how` of its work."""

    def shard(self, name: str) -> Counter[str]:
        """Do one shard; its counts."""
        ...


def each_model_shard(
    names: list[str],
    actor: type,
    how: Any,
    *,
    what: str,
    models: Sequence[str],
    train: TrainSettings,
    trainer: TrainerSettings,
) -> Iterator[dict[str, int]]:
    """The counts of every shard, as they are done. actor: a class whose `__call__` is `call_shards`; `how`: its only argument.

    what: of messages. models: folders, whose weights must find room. Raises CapacityError, or a UserError of the work.
    """
    import ray.data

    resources = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.on_gpu else {})
    sizes = [count_parameters(model) for model in models]
    if None not in sizes:
        resources["memory"] = sum(filter(None, sizes)) * (2 if half_precision(train, trainer) else 4)
        require_room(what, [resources], trainer.label_selector)
        if trainer.on_gpu:
            require_gpu_memory(int(resources["memory"]), trainer.label_selector)
    fewest, most = trainer.pool
    tasks = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names)).map_batches(
        actor,
        fn_constructor_args=(how,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=min(fewest, len(names)), max_size=min(most, len(names))),
        num_cpus=trainer.cpus_per_worker,
        num_gpus=1 if trainer.on_gpu else 0,
        memory=resources.get("memory"),
        label_selector=trainer.label_selector or None,
    )
    tasks.context.raise_original_map_exception = True  # or a UserError would arrive as text
    try:
        for row in tasks.iter_rows():
            yield {name: int(number) for name, number in zip(row["reasons"], row["counts"], strict=True)}
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise


def count_shards(names: list[str], actor: type, how: Any, what: str, trainer: TrainerSettings) -> Counter[str]:
    """The counts of all shards of a work that asks one model, `how.model`; those that are done are only counted, by what
    `how.mark` names. what: of messages."""
    counts, left = Counter[str](), list[str]()
    for name in names:
        if (known := finished(how.mark(name))) is not None:
            counts.update(known)
        else:
            left.append(name)
    if left:
        told = {"what": what, "models": [how.model], "train": how.train, "trainer": trainer}
        for found in each_model_shard(left, actor, how, **told):
            counts.update(found)
    return counts


def call_shards(actor: ShardActor, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What an actor makes of a batch of Ray Data's."""
    told = [actor.shard(str(name)) for name in batch["name"]]
    return {"reasons": [list(one) for one in told], "counts": [list(one.values()) for one in told]}


def at_hand(model: str, folder: str) -> str:
    """The model's folder here: downloaded into `folder` from S3."""
    if not model.startswith("s3://"):
        return model
    storage.download(model, folder)
    return str(Path(folder))


@dataclass(frozen=True)
class SampleEncoder:
    """Samples as they are trained on."""

    tokenizer: Any
    prompt: PromptSettings
    positions: int | None
    """Tokens that the models reach over."""

    @property
    def answers(self) -> Answers:
        return Answers(self.tokenizer, self.prompt)

    def turns(self, row: Mapping[str, Any]) -> list[Message]:
        """What follows the prompt, the model's own turns mended."""
        answers = self.answers
        return [answers.message(turn["content"]) if turn["role"] == "assistant" else turn for turn in turns_of(row)]

    def encode(self, row: Mapping[str, Any], turns: list[Message]) -> Encoded | str:
        """The sample's tokens, or why there are none."""
        whole = is_finished(row) and turns[-1]["role"] == "assistant"
        try:
            found = encode_turns(
                to_messages(row["problem"], self.prompt), turns, self.tokenizer, self.prompt, finished=whole
            )
        except (ValueError, PromptError) as error:
            return f"{NOT_ENCODABLE}: {error}"
        if self.positions is not None and len(found.input_ids) > self.positions:
            return f"{TOO_LONG}: {len(found.input_ids)} tokens"
        return found if own_weights(found)[1:].any() else f"{NOT_ENCODABLE}: no token is the model's own"
