"""Asking models in this process, by transformers: `answer(models, messages, settings)`.

No vLLM here: a model of transformers answers seconds after it was asked for (an engine of vLLM's takes half a minute to start),
several stand beside each other, and what is said can be shown while it is said. Prompts are the very token ids of training, and
an answer ends at the very tokens that end one there. What two samplers draw is another text all the same, with equal seeds too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer, read_completion
from redi_ray.talk.models import RunModel, TalkError
from redi_ray.text.dialogue import as_problem
from redi_ray.text.prompts import to_messages
from redi_ray.text.templates import Message
from redi_ray.text.thoughts import in_parts, without_tags
from redi_ray.text.tokens import prompt_ids

MOST_HELD = 4
"""Models kept in memory, the last ones that were asked."""

Show = Callable[[RunModel, str], None]
"""Called with the answer so far."""


@dataclass(frozen=True)
class AskSettings:
    """How an answer is drawn."""

    temperature: float = 0.6
    """0 takes the likeliest token."""
    top_p: float = 0.95
    max_tokens: int = 32768
    """Of the answer; the model's positions end it, too."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature <= 10 and 0 < self.top_p <= 1 and self.max_tokens >= 1):
            raise TalkError(
                f"temperature {self.temperature} must be between 0 and 10, top_p {self.top_p} above 0 and at most 1, max_tokens "
                f"{self.max_tokens} at least 1"
            )

    @classmethod
    def of(cls, evaluate: EvaluateSettings) -> AskSettings:
        """As a run's evaluations sample."""
        return cls(evaluate.temperature, evaluate.top_p, evaluate.max_tokens, evaluate.seed)


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    model: str
    text: str
    """All of it, the forced prefix included."""
    tokens: int
    """New ones."""
    seconds: float
    finished: bool
    """False where it was cut off at its limit."""

    @property
    def response(self) -> str:
        """What stands behind its thought; all of it where it has none, or never closed it."""
        thought, response = in_parts(self.text)
        return without_tags(response).strip() if response else thought

    @property
    def turn(self) -> Message:
        """What the next question follows: thoughts stay with who has them."""
        return {"role": "assistant", "content": self.response}


def answer(
    models: Sequence[RunModel],
    messages: Sequence[Message],
    settings: AskSettings,
    show: Show = lambda model, text: None,
) -> list[Answer]:
    """What each of the models says to a chat of user's and assistant's turns that ends with a question, one after the other.

    The last question is asked as the run asks its problems (template, system message, forced prefix). Raises TalkError for turns
    that are no such chat, or that leave no room for an answer.
    """
    try:
        problem = as_problem(list(messages))
    except (ValueError, KeyError, IndexError) as error:
        raise TalkError(f"messages: {error}") from None
    return [_answer(model, problem, settings, show) for model in models]


def _answer(model: RunModel, problem: str, settings: AskSettings, show: Show) -> Answer:
    import torch

    prompt, speaker = model.config.model.prompt, load(model)
    started = time.monotonic()
    ids = prompt_ids(to_messages(problem, prompt), speaker.tokenizer, prompt)
    room = speaker.positions - len(ids)
    if room < 1:
        raise TalkError(
            f"{model.name}: the chat has {len(ids):,} tokens, and the model reads {speaker.positions:,}; begin a new one"
        )
    generator = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    said: list[int] = []

    def text() -> str:
        return prompt.prefix + read_completion(said, speaker.tokenizer, speaker.ends)[0]

    def take(token: int) -> None:
        said.append(token)
        show(model, text())

    torch.manual_seed(settings.seed)
    speaker.generate(
        ids,
        take,
        max_new_tokens=min(room, settings.max_tokens),
        **(generator if settings.temperature > 0 else {"do_sample": False}),
    )
    finished = bool(said) and said[-1] in speaker.ends
    return Answer(model.name, text(), len(said), round(time.monotonic() - started, 2), finished)


@dataclass(frozen=True)
class Speaker:
    """A model in memory."""

    network: Any
    tokenizer: Any
    ends: frozenset[int]
    """Ids that end an answer."""
    positions: int
    """Most tokens that it reads and writes."""

    def generate(self, ids: Sequence[int], take: Callable[[int], None], **settings: Any) -> None:
        """Call `take` with each new token."""
        import torch
        from transformers import GenerationConfig

        config = GenerationConfig(
            eos_token_id=sorted(self.ends), pad_token_id=self.tokenizer.pad_token_id or min(self.ends), **settings
        )
        asked = torch.tensor([list(ids)], device=self.network.device)
        with torch.inference_mode():
            self.network.generate(
                asked, attention_mask=torch.ones_like(asked), generation_config=config, streamer=_Stream(take)
            )


class _Stream:
    """What transformers hands its tokens to: first the prompt, then one at a time."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self.take, self.asked = take, False

    def put(self, tokens: Any) -> None:
        if self.asked:
            for token in tokens.flatten().tolist():
                self.take(token)
        self.asked = True

    def end(self) -> None:
        pass


def load(model: RunModel) -> Speaker:
    """The model in memory, on a GPU where there is one. Raises TalkError where it cannot be loaded."""
    return _load(
        model.local(), model.trusts_code, model.config.resources.engine.dtype, model.config.resources.engine.longest
    )


@lru_cache(maxsize=MOST_HELD)
def _load(folder: str, trusted: bool, dtype: str, longest: int | None) -> Speaker:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder, trusted)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trusted)
    except (OSError, ValueError) as error:
        raise TalkError(f"{folder} cannot be loaded: {error}") from error
    network = network.to(torch.device(device)).eval()  # type: ignore[arg-type]
    network.generation_config = type(network.generation_config)()  # the run's own sampling stands, not the model's
    own = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    positions = min(limit for limit in (own, longest, 1 << 30) if limit is not None)
    return Speaker(network, tokenizer, end_of_turn_ids(folder, trusted), positions)
