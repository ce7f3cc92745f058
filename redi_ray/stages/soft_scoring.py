"""A column of a teacher's distributions over the next token at each token of samples, by our own pass, over packs. A shard is one
piece of work; one that is done is only counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redi_ray.config.token_steps import SoftTargetSettings
from redi_ray.errors import UserError
from redi_ray.modeling.soft_columns import SoftFormat
from redi_ray.schemas import token_distributions
from redi_ray.stages.token_scoring import TokenScoring, TokenScoringShard
from redi_ray.text.spans import own_weights
from redi_ray.text.tokens import Encoded
from redi_ray.train.fingerprints import model_fingerprint


class SoftTargetsShard(TokenScoringShard):
    """An actor that holds the teacher."""

    def __init__(self, how: TokenScoring) -> None:
        super().__init__(how)
        settings = how.settings
        assert isinstance(settings, SoftTargetSettings)
        self.teacher = self.policies["model"]
        self.form = format_of(settings, len(self.tokenizer), len(self.teacher.head_weight))
        teacher = model_fingerprint(self.folders["model"], how.overrides)
        self.schema = token_distributions(self.fingerprint, teacher, self.form.to_json())

    def score(self, sequences: list[Encoded]) -> Iterator[Any]:
        """The records of the own tokens of each, in order, as bytes."""
        from redi_ray.train.token_scores import score_distributions

        own = [own_weights(one) for one in sequences]
        records = score_distributions(
            self.teacher,
            [(one.input_ids, one.prompt_length, weights) for one, weights in zip(sequences, own, strict=True)],
            self.form,
            tokens_per_pack=self.how.train.tokens_per_pack,
            chunk_tokens=self.how.train.head_chunk_tokens,
            device=self.device,
        )
        return (found[weights != 0].tobytes() for found, weights in zip(records, own, strict=True))

    def tokens_of(self, scored: bytes) -> int:
        return len(scored) // self.form.bytes_per_token


def format_of(settings: SoftTargetSettings, tokens: int, rows: int) -> SoftFormat:
    """How records are laid out. tokens: of the tokenizer. rows: of the teacher's head, which may have more or fewer.

    Raises UserError where there are fewer tokens than are to be kept of each position.
    """
    vocabulary = min(tokens, rows)
    if settings.top_k > vocabulary:
        raise UserError(
            f"soft_targets: top_k {settings.top_k} is more than the {vocabulary} tokens that there are; {vocabulary} keeps "
            "them all"
        )
    return SoftFormat(settings.top_k, vocabulary)
