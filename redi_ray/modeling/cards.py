"""Model cards: the README of an exported folder, as the hub reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redi_ray.text.templates import Message

CARD = "README.md"
MARK = "<!-- Written by redi_ray, and written again when scores come in. Without this line it is yours, and stays as it is. -->"

USES = {
    "text-generation": """Prompts are the tokenizer's chat template and what the training forced behind it{forced}.
`redi-ray serve` puts both into the chat template that clients use; by hand:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto")
messages = {messages}
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True{arguments}) + {prefix}
inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens={max_tokens}, do_sample={do_sample}{drawn})
print(tokenizer.decode(tokens[0]))
```

```python
from vllm import LLM, SamplingParams

sampling = SamplingParams(temperature={temperature}, top_p={top_p}, max_tokens={max_tokens})
print(LLM(MODEL).generate([prompt], sampling)[0].outputs[0].text)
```

`MODEL` is this folder, or its name on the hub.""",
    "text-classification": """A conversation, rendered by the tokenizer's chat template to the end of the answer, has the value
of its last token: the logit of the only label, without bias. `redi_reward` in the config says of which objective it is, and
whether its sigmoid is a probability.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForSequenceClassification.from_pretrained(MODEL)
messages = [{{"role": "user", "content": "What is 1 + 1?"}}, {{"role": "assistant", "content": "2"}}]
text = tokenizer.apply_chat_template(messages, tokenize=False)
print(model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits.item())
```

`MODEL` is this folder, or its name on the hub; vLLM reads it with `LLM(MODEL, runner="pooling")`.""",
}


@dataclass(frozen=True)
class Asked:
    """How the model is asked, for the lines to copy."""

    messages: Sequence[Message] = ({"role": "user", "content": "What is 1 + 1?"},)
    prefix: str = ""
    template_args: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 4096


@dataclass(frozen=True)
class Score:
    """pass@1 on a benchmark, in [0, 1], with its 95 % interval."""

    benchmark: str
    pass_at_1: float
    ci95: tuple[float, float]
    problems: int
    samples: int
    """Of each problem."""


@dataclass(frozen=True)
class Card:
    """What a card tells."""

    name: str
    model_type: str
    is_reward: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    """A row of the first table each."""
    history: Sequence[str] = ()
    """How the weights came about, a step a line."""
    scores: Sequence[Score] = ()
    asked: Asked = Asked()
    tags: Sequence[str] = ()
    base_model: str | None = None
    """Its name on the hub, if it has one."""
    datasets: Sequence[str] = ()
    """Names on the hub."""
    licence: str | None = None
    """By the hub's names; None where it is not known."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Of what the model was made of."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return "text-classification" if self.is_reward else "text-generation"


def render_card(card: Card) -> str:
    """The card as Markdown behind the YAML that the hub reads."""
    made = "A reward model, trained" if card.is_reward else "Trained"
    parts = [
        f"---\n{_metadata(card)}\n---\n{MARK}\n\n# {card.name}",
        f"{made} with redi_ray: offline distillation of reasoning with negative signals.",
        two_columns({"": ""}, card.facts),
    ]
    if card.history:
        parts.append("## How it was made\n\n" + "\n".join(f"{n}. {line}" for n, line in enumerate(card.history, 1)))
    if card.scores:
        parts.append("## Scores\n\n" + _scores(card.scores))
    parts.append("## Use\n\n" + _use(card))
    if card.licences:
        parts.append("## Licences\n\n" + two_columns({"of": "licence"}, card.licences))
    if card.versions:
        parts.append("## Versions\n\n" + two_columns({"package": "version"}, card.versions))
    return "\n\n".join(part for part in parts if part) + "\n"


def is_written_here(text: str) -> bool:
    """Whether a README is a card of ours that nobody has taken over."""
    return MARK in text


def _metadata(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # some tenths of a second

    results = [
        EvalResult(
            task_type=card.task, dataset_type=score.benchmark, dataset_name=score.benchmark, metric_type="pass@1",
            metric_value=round(100 * score.pass_at_1, 2), metric_name="pass@1, %",
        )
        for score in card.scores
    ]  # fmt: skip
    kind = "reward-model" if card.is_reward else "reasoning"
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=card.task,
        tags=list(dict.fromkeys(["redi_ray", kind, card.model_type, *card.tags])),
        base_model=card.base_model,
        datasets=list(card.datasets) or None,
        license=card.licence,
        model_name=card.name,
        eval_results=results or None,
    )
    return data.to_yaml()


def two_columns(head: Mapping[str, str], rows: Mapping[str, Any]) -> str:
    """Two columns; empty without rows."""
    if not rows:
        return ""
    ((left, right),) = head.items()
    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])


def cell(value: Any) -> str:
    """A value as a cell of a table holds it: one line, no bar."""
    return " ".join(str(value).replace("|", "\\|").split())


def _scores(scores: Sequence[Score]) -> str:
    lines = [
        f"| {cell(one.benchmark)} | {100 * one.pass_at_1:.1f} | {100 * one.ci95[0]:.1f} to {100 * one.ci95[1]:.1f} | "
        f"{one.problems:,} x {one.samples} |"
        for one in scores
    ]
    head = ["| benchmark | pass@1, % | 95 % interval | problems x samples |", "|---|---|---|---|"]
    return "\n".join([*head, *lines])


def _use(card: Card) -> str:
    asked = card.asked
    drawn = f", temperature={asked.temperature:g}, top_p={asked.top_p:g}" if asked.temperature > 0 else ""
    return USES[card.task].format(
        forced=f", `{asked.prefix.strip()}`" if asked.prefix.strip() else "",
        messages=list(asked.messages),
        prefix=repr(asked.prefix),
        arguments="".join(f", {name}={value!r}" for name, value in asked.template_args.items()),
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        do_sample=asked.temperature > 0,
        drawn=drawn,
    )
