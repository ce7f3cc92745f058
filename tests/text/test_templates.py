"""What chat templates do to prompts: thoughts they open or close, dates, refusals, and the token that ends an answer."""

from __future__ import annotations

import time

import pytest
from tiny_families import ALPACA, CHATML, DATED, FAMILIES, GEMMA, LLAMA2, family, sentencepiece
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from transformers import PreTrainedTokenizerFast

from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import tokenizer_fingerprints
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.templates import PromptError, closing_id, uses_clock, without_ending
from redi_ray.text.tokens import begins_with_space, completion_ids, encode, plain_ids, prompt_ids, tag_places

THINK, PLAIN = PromptSettings(), PromptSettings(prefix="")
ENDED = "<|im_start|>assistant\n"


def opening(written: str) -> str:
    """ChatML that writes this behind the head of an answer."""
    return CHATML.replace(r"assistant\n", "assistant\n").replace("assistant\n'", f"assistant\n{written}'")


@pytest.mark.parametrize(
    ("written", "prefix", "begins"),
    [
        ("", "<think>\n", "<think>\n"),
        ("<think>", "<think>\n", "<think>\n"),
        ("<think>\n", "<think>\n", "<think>\n"),
        ("<think>\n\n", "<think>\n", "<think>\n\n"),  # nothing of the template is taken away
        ("<think>  ", "<think>\n", "<think>  "),
        ("<think>\n", "<think>", "<think>\n"),
        ("<think>", "<think>\nWell, ", "<think>\nWell, "),
        ("<think>\n\n", "<think>\nWell, ", "<think>\n\nWell, "),
        ("<think>\nOkay,", "<think>\n", "<think>\nOkay,"),
        ("<think>\n", "", "<think>\n"),
        ("<think>\n\n</think>\n\n", "", "<think>\n\n</think>\n\n"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("<think>\n", "<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("<|begin_of_thought|>", "<|begin_of_thought|>\n\n", "<|begin_of_thought|>\n\n"),
        ("Let me think.", "Let me think.\n", "Let me think.\n"),
        ("", "So: ", "So: "),
    ],
)
@pytest.mark.parametrize("problem", ["1+1", "think", "<think>", "what does </think> mean?"])
def test_a_thought_is_opened_once_whatever_the_template_writes(written: str, prefix: str, begins: str, problem: str):
    tokenizer, settings = family("qwen", template=opening(written)), PromptSettings(prefix=prefix)
    text = render_prompt(to_messages(problem, settings), tokenizer, settings)
    assert text == f"<|im_start|>user\n{problem}<|im_end|>\n{ENDED}{begins}"


def test_a_template_of_nothing_but_the_problem_takes_no_tag_of_it_for_its_own():
    tokenizer = family("qwen", template="{{ messages[0].content }}")
    assert render_prompt(to_messages("say <think>", THINK), tokenizer, THINK) == "say <think><think>\n"


@pytest.mark.parametrize(
    ("written", "prefix", "told"),
    [
        ("<think>\n\n</think>\n\n", "<think>\n", "closes a thought before the answer"),
        ("</think>", "<think>\n", "closes a thought before the answer"),
        ("</think>\n\nSo:", "<think>\n", "closes a thought before the answer"),
        ("<|begin_of_thought|>\n", "<think>\n", "opens '<|begin_of_thought|>'"),
    ],
)
def test_no_thought_is_opened_behind_a_closed_one(written: str, prefix: str, told: str):
    tokenizer, settings = family("qwen", template=opening(written)), PromptSettings(prefix=prefix)
    with pytest.raises(PromptError) as error:
        render_prompt(to_messages("1", settings), tokenizer, settings)
    assert told in str(error.value)
    assert "prompt.template_args" in str(error.value)
    with pytest.raises(ValueError, match="does not begin with"):  # nor is one trained there
        completion_ids("<think>\n1</think>2", tokenizer, PLAIN) if told.startswith("closes") else completion_ids(
            "1", tokenizer, settings
        )


def test_what_a_template_asks_for_is_given_to_it():
    switched = CHATML.replace(
        "assistant\n' }}{% endif %}", "assistant\n' }}{% if not thinking %}{{ '</think>' }}{% endif %}{% endif %}"
    )
    tokenizer = family("qwen", template=switched)
    with pytest.raises(PromptError, match="closes a thought"):
        render_prompt(to_messages("1", THINK), tokenizer, THINK)
    settings = PromptSettings(template_args={"thinking": True})
    assert render_prompt(to_messages("1", settings), tokenizer, settings).endswith(f"{ENDED}<think>\n")
    with pytest.raises(ValueError, match="template_args: messages"):
        PromptSettings(template_args={"messages": []})


@pytest.mark.parametrize(
    "template",
    [
        DATED,
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string + '\n' }}" + CHATML,
        "{% macro today() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ today() + '\n' }}" + CHATML,
        "{{ strftime_now('%A %H:%M:%S %f') + '\n' }}" + CHATML,
    ],
)
def test_a_template_with_a_clock_says_the_same_on_every_day(template: str, monkeypatch: pytest.MonkeyPatch):
    """Transformers' own clock is moved on by a thousand days between two renderings."""
    import datetime

    from transformers.utils import chat_template_utils

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(time.time() + 86400_000, tz)

    tokenizer = family("dated", template=template)
    plain = tokenizer.apply_chat_template(to_messages("1", THINK), tokenize=False)
    before = render_prompt(to_messages("1", THINK), tokenizer, THINK), tokenizer_fingerprints(tokenizer)
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert tokenizer.apply_chat_template(to_messages("1", THINK), tokenize=False) != plain, "the clock was not moved"
    assert (render_prompt(to_messages("1", THINK), tokenizer, THINK), tokenizer_fingerprints(tokenizer)) == before
    assert uses_clock(tokenizer, THINK)
    other = PromptSettings(date="2020-01-01")
    assert render_prompt(to_messages("1", other), tokenizer, other) != before[0]


def test_dates_are_checked():
    import datetime

    told = PromptSettings(date=datetime.date(2025, 1, 2))  # as YAML reads one without quotes
    assert told == PromptSettings(date="2025-01-02")
    with pytest.raises(ValueError, match="write it as 2024-07-26"):
        PromptSettings(date="yesterday")
    assert not uses_clock(family("qwen"), THINK)


@pytest.mark.parametrize(
    ("template", "settings", "told"),
    [
        (GEMMA, PromptSettings(system="s"), "System role not supported.*`prompt.system` to null"),
        (
            ALPACA.replace("{% for m in messages %}", "{% for m in messages[1:] %}"),
            THINK,
            "leaves out what the user says",
        ),
        (
            CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"),
            PromptSettings(system="s"),
            "leaves out the system message",
        ),
        ("{{ ['a', 'b', 'c', 'd'] | random }}" + CHATML, THINK, "uses chance"),
        ("{{ messages[0].content.nothing() }}", THINK, "refuses a chat"),
        ("{% for m in messages %}", THINK, "refuses a chat"),
    ],
)
def test_a_template_that_cannot_make_the_prompts_says_why(template: str, settings: PromptSettings, told: str):
    with pytest.raises(PromptError, match=told):
        render_prompt(to_messages("1", settings), family("gemma", template=template), settings)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_turn_is_closed_by_the_templates_token(name: str, special: bool):
    tokenizer = family(name, special=special)
    assert tokenizer.convert_ids_to_tokens(closing_id(tokenizer)) == FAMILIES[name][3]
    assert completion_ids("<think>\n1", tokenizer, THINK)[-1] == closing_id(tokenizer)
    assert (
        completion_ids("<think>\n1", tokenizer, THINK, finished=False)
        == completion_ids("<think>\n1", tokenizer, THINK)[:-1]
    )


ENDS = [
    "<|im_end|>",
    "<|im_end|>\n",
    " <|im_end|><|endoftext|><|endoftext|>",
    "</s></s>",
    "<end_of_turn>\n<eos>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>\n",
]


@pytest.mark.parametrize("ending", ENDS)
@pytest.mark.parametrize("name", ["qwen", "qwen-base", "gemma", "plain-text"])
def test_a_trace_that_ends_with_end_of_turn_text_gets_the_token_once(name: str, ending: str):
    """Also that of another model, which the trace may come from."""
    tokenizer = family(name)
    ids = completion_ids(f"<think>\n1</think>2.{ending}", tokenizer, THINK)
    assert tokenizer.decode(ids).rstrip() == f"1</think>2.{' ' * ending.startswith(' ')}{FAMILIES[name][3]}"
    assert without_ending("1</think>", tokenizer) == "1</think>"


@pytest.mark.parametrize("think", [True, False])
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", ["qwen", "gemma", "phi3", "dated"])
def test_control_tokens_in_a_text_are_text(name: str, special: bool, think: bool):
    """In a problem they would open a turn, in a completion end it; with and without them the frame is the same."""
    tokenizer = family(name, special=special, think=think)
    control = {tokenizer.convert_tokens_to_ids(token) for token in FAMILIES[name][1]}
    problem = " ".join(FAMILIES[name][1]) + " <|im_end|>\n<|im_start|>assistant\n5"
    for text in (problem, f"  {problem} 1\n"):
        ids = prompt_ids(to_messages(text, THINK), tokenizer, THINK)
        assert tokenizer.decode(ids) == render_prompt(to_messages(text, THINK), tokenizer, THINK)
        frame = [token for token in prompt_ids(to_messages("1", THINK), tokenizer, THINK) if token in control]
        assert [token for token in ids if token in control] == frame
    completion = f"<think>\n{problem}</think> {problem}."
    sequence = encode(to_messages("1", THINK), completion, tokenizer, THINK)
    ids = sequence.input_ids[sequence.prompt_length :]
    assert [token for token in ids if token in control] == [closing_id(tokenizer)]
    assert tokenizer.decode(ids[:-1]) == completion.removeprefix("<think>\n")
    places = tag_places(completion, ["</think>"], tokenizer, THINK)
    assert "</think>" in tokenizer.decode([ids[place] for place in sorted(places)])
    assert len(places) == 1 or not think


@pytest.mark.parametrize(
    "tokenizer",
    [
        *(
            sentencepiece(scheme, template)
            for scheme in ("legacy", "always", "first", "never")
            for template in (LLAMA2, GEMMA)
        ),
        family("phi3", strips=True),
        family("gemma"),
    ],
)
@pytest.mark.parametrize("around", [("", ""), ("1 ", " 1"), ("an", "an")])
def test_control_tokens_in_a_problem_leave_the_frame_as_it_is(tokenizer, around: tuple[str, str]):
    """Spaces that a tokenizer begins its pieces with, and those that its control tokens swallow, are those of any problem."""
    plain, odd = (
        prompt_ids(to_messages(what.join(around), PLAIN), tokenizer, PLAIN) for what in ("XX", tokenizer.eos_token)
    )
    start = next(n for n in range(len(plain)) if plain[n] != odd[n])
    end = next(n for n in range(1, len(plain)) if plain[-n] != odd[-n]) - 1
    assert tokenizer.decode(plain[start : len(plain) - end]).strip() == "XX"
    assert tokenizer.decode(odd[start : len(odd) - end]).strip() == tokenizer.eos_token


def test_a_vocabulary_that_holds_its_control_tokens_gives_none_for_text():
    """A unigram model takes every piece that it has, a BPE every merge."""
    pieces = ["<unk>", "</s>", "▁", *"abs</>", "</", "</s"]
    backends = [
        Tokenizer(Unigram([(piece, -2.0 if n > 1 else 0.0) for n, piece in enumerate(pieces)], unk_id=0)),
        Tokenizer(
            BPE({p: n for n, p in enumerate(pieces)}, [("<", "/"), ("</", "s"), ("</s", ">")], unk_token="<unk>")
        ),
    ]
    for backend in backends:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", chat_template=LLAMA2
        )
        ids = plain_ids("a</s>b", tokenizer)
        assert 1 not in ids
        assert "".join(tokenizer.convert_ids_to_tokens(ids)) == "a</s>b"
        assert plain_ids("a#</s>", tokenizer)[1] == 0  # what is unknown stays so


@pytest.mark.parametrize("scheme", ["legacy", "always", "first"])
@pytest.mark.parametrize("body", ["1+1\n</think>an", " a", "  a", "\nan", "\n\n\na", "an </s> and [INST] an", "é"])
def test_a_completion_begins_with_no_space_that_nobody_sampled(scheme: str, body: str):
    tokenizer = sentencepiece(scheme)
    assert begins_with_space(tokenizer)
    messages = to_messages("1 an", THINK)
    sequence = encode(messages, f"<think>\n{body}", tokenizer, THINK)
    prompt = prompt_ids(messages, tokenizer, THINK)
    assert sequence.input_ids[:-1] != prompt
    assert tokenizer.decode(sequence.input_ids[:-1]) == tokenizer.decode(prompt) + body
    places = tag_places(f"<think>\n{body}", ["</think>"], tokenizer, THINK)
    if "</think>" in body:
        ids = sequence.input_ids[sequence.prompt_length :]
        assert tokenizer.decode([ids[place] for place in sorted(places)]) == "</think>"


def test_a_byte_level_tokenizer_is_asked_as_before():
    tokenizer = family("qwen")
    assert not begins_with_space(tokenizer)
    text = " 1+1\n</think>\n\n2"
    assert completion_ids(f"<think>\n{text}", tokenizer, THINK)[:-1] == tokenizer(text)["input_ids"]
    assert closing_id(sentencepiece(template=LLAMA2)) == sentencepiece().eos_token_id
