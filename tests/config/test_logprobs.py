"""Log-probs are kept only where they are those of what is trained; elsewhere the config says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from redi_ray.cli.preflight import preflight
from redi_ray.config.load import ConfigError, load_config
from redi_ray.modeling.tokenizer import ModelError, character_tokenizer

DEMO = "configs/demo.yaml"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["generate={kind: endpoint, logprobs: true, endpoint: {base_url: 'http://a/v1', model: m}}"],
         "an endpoint names no ids of its tokens, so that nobody knows whether they are the trained model's"),
        (["generate.logprobs=true", "generate.tools={}"], "behind a call the template closes the turn"),
        (["generate.logprobs=true", "generate.prompt={system: Think.}"], "trained behind `model.prompt`"),
        (["generate.logprobs=true", "generate.model=other"], "generate.logprobs: other has another tokenizer"),
        (["generate.logprobs=true", "resources.engine.engine_kwargs={logprobs_mode: processed_logprobs}"],
         "generate.logprobs: engine_kwargs.logprobs_mode must be raw_logprobs"),
        (["steps={own: {do: sample, model: sft, logprobs: true, engine: {engine_kwargs: {logprobs_mode: raw_logits}}}}"],
         "steps.own.logprobs: engine_kwargs.logprobs_mode must be raw_logprobs"),
    ],
)  # fmt: skip
def test_where_they_say_nothing_of_what_is_trained_they_are_refused(overrides: list[str], told: str):
    with pytest.raises(ConfigError) as caught:
        load_config(DEMO, overrides)
    assert told in str(caught.value)
    assert "do: logps" in str(caught.value) or "logprobs_mode" in told or "another tokenizer" in told


def test_a_sampler_with_another_tokenizer_is_told_before_anything_starts(tmp_path: Path):
    for name, alphabet in (("student", "0123 \n"), ("teacher", "3210 \n")):
        character_tokenizer(alphabet).save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text('{"model_type": "qwen2"}')
    models = [
        f"generate.model={tmp_path / 'teacher'}",
        f"model.init={{kind: pretrained, path: {tmp_path / 'student'}}}",
    ]
    config = load_config(DEMO, ["generate.logprobs=true", *models])
    with pytest.raises(ModelError, match=r"teacher has another tokenizer than model.init.path .*student.*do: logps"):
        preflight(config)
