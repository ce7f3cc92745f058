"""Settings of endpoints: no key ever gets into a config, and what cannot work is refused."""

from __future__ import annotations

import pytest

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.load import ConfigError, dump_config, load_config
from redi_ray.config.secrets import holds_a_key

KEYS = [
    "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5tUv8x",
    "sk-" + "ant-api03-" + "Ab3dEf6hIj9lMn2pQr5tUv8x",
    "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "gsk_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "Bearer " + "0123456789abcdef0123",
    "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0",
]
"""Made up, in the shapes that services give theirs."""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "override",
    [
        "generate.endpoint.api_key_env={key}",
        "generate.endpoint.extra_body={{headers: [{{Authorization: '{key}'}}]}}",
        "generate.endpoint.api_key={key}",
        "resources.engine.engine_kwargs={{hf_token: '{key}'}}",
        "model.prompt.system='say {key}'",
    ],
)
def test_a_key_is_refused_wherever_it_stands_and_never_repeated(key: str, override: str):
    endpoint = "generate={kind: endpoint, endpoint: {base_url: 'http://teacher:8000/v1', model: m}}"
    with pytest.raises(ConfigError, match="looks like an API key") as caught:
        load_config("configs/demo.yaml", [endpoint, override.format(key=key)])
    assert key not in str(caught.value)


def test_names_and_paths_are_no_keys():
    for text in (
        "hf-internal-testing/tiny-random-LlamaForCausalLM",
        "/data/hf_models/Qwen2.5-Math-1.5B-Instruct-checkpoint-000123",
        "s3://bucket/sk-run/disk-usage-by-model-and-arm-2024-05-01",
        "task-specific-system-prompt-number-12345678",
        "The bearer of this has 1234 coins",
        "TEACHER_API_KEY",
    ):
        assert not holds_a_key({"a": [text]}), text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base_url": "teacher:8000/v1"}, "base_url must be http"),
        ({"base_url": "http://user:pass@teacher/v1"}, "no user, password or query"),
        ({"base_url": "https://teacher/v1?key=1"}, "no user, password or query"),
        ({"api_key_env": "0123456789abcdef"}, "name of an environment variable"),
        ({"api_key_env": "a1b2c3d4e5f6a7b8"}, "name of an environment variable"),
        ({"model": " "}, "model is empty"),
        ({"max_in_flight": 0}, "max_in_flight must be >= 1"),
        ({"requests_per_minute": 0}, "requests_per_minute must be > 0"),
        ({"backoff_seconds": 90.0}, "backoff_seconds <= max_backoff_seconds"),
        ({"prompt_price": 1.0}, "both prompt_price and completion_price"),
        ({"extra_body": {"n": 4}}, "must not hold n"),
    ],
)
def test_mistakes_are_named(change: dict, told: str):
    with pytest.raises(ValueError, match=told):
        EndpointSettings(**{"base_url": "http://teacher:8000/v1", "model": "m", **change})


def test_the_resolved_config_names_the_variable_alone(monkeypatch: pytest.MonkeyPatch):
    """What is copied into the run's folder does not hold the key, even when the variable is set."""
    monkeypatch.setenv("TEACHER_API_KEY", "open-sesame-0123456789")
    endpoint = "{base_url: 'http://teacher:8000/v1', model: m, api_key_env: TEACHER_API_KEY}"
    text = dump_config(load_config("configs/demo.yaml", [f"generate={{kind: endpoint, endpoint: {endpoint}}}"]))
    assert "api_key_env: TEACHER_API_KEY" in text
    assert "sesame" not in text
