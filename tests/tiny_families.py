"""Small tokenizers with the habits of known families: byte-level BPE in chats of several templates, and SentencePiece's kind."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from redi_ray.modeling.tokenizer import train_bpe_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ALPACA = (
    "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
QWEN25 = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}{% if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) "
    "+ '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
DATED = "{{ 'Today: ' + strftime_now('%d %b %Y') + '\n' }}" + CHATML
FAMILIES = {
    # template, control tokens, eos, what closes a turn
    "qwen": (CHATML, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|im_end|>", "<|im_end|>"),
    "qwen-base": (CHATML, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|endoftext|>", "<|im_end|>"),
    "qwen2.5": (QWEN25, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|endoftext|>", "<|im_end|>"),
    "llama3": (
        LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|end_of_text|>",
        "<|eot_id|>",
    ),
    "gemma": (GEMMA, ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"), "<eos>", "<end_of_turn>"),
    "phi3": (PHI3, ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), "<|endoftext|>", "<|end|>"),
    "plain-text": (ALPACA, ("</s>",), "</s>", "</s>"),
    "dated": (DATED, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|endoftext|>", "<|im_end|>"),
}
TEXT = "<think>\nSo 12 + 30 is 42, and 3 more is 45.\n</think>\n\nThe answer is \\boxed{45}.\n### user: assistant model"


def family(
    name: str, *, special: bool = True, template: str | None = None, think: bool = False, strips: bool = False
) -> Any:
    """A byte-level BPE tokenizer with the template, the control tokens and the eos of a family.

    special: whether the control tokens are special, or only added. think: whether the tags of a thought are tokens.
    strips: whether control tokens take white space beside them away, as Phi-3's.
    """
    own, control, eos, _ = FAMILIES[name]
    made: Qwen2Tokenizer = train_bpe_tokenizer([TEXT] * 20, 400)
    learnt = {token: index for token, index in made.get_vocab().items() if index < made.vocab_size}
    tokenizer = Qwen2Tokenizer(vocab=learnt, merges=made_merges(made), eos_token=None, pad_token=None, unk_token=None)
    tokenizer.add_tokens(
        [AddedToken(token, special=special, normalized=False, lstrip=strips, rstrip=strips) for token in control]
    )
    if think:
        tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.eos_token = eos
    tokenizer.bos_token = next((token for token in control if token in ("<bos>", "<|begin_of_text|>")), None)
    tokenizer.chat_template = template or own
    return tokenizer


def made_merges(tokenizer: Any) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


def sentencepiece(scheme: str = "legacy", template: str = LLAMA2) -> PreTrainedTokenizerFast:
    """Begins every text with a space, as Llama 2's and Mistral's do. scheme: `legacy` (a normalizer), `always` or `first`."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *letters,
        "▁1",
        "▁a",
        "▁<",
        "an",
    ]
    model = BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[("▁", "1"), ("▁", "a"), ("▁", "<"), ("a", "n")],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    backend = Tokenizer(model)
    if scheme == "legacy":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = template
    return made
