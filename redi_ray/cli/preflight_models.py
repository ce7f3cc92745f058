"""Whether the models of steps can be loaded, and have the tokens that what they say, or learn, is of."""

from __future__ import annotations

from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.data import SampledTraces
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.names import BASE
from redi_ray.config.steps import SampleStep
from redi_ray.config.student import ArithmeticModel, PretrainedModel
from redi_ray.config.token_steps import LogpsStep, SoftTargetsStep
from redi_ray.config.training_steps import MergeStep, ModelStep, TrainStep
from redi_ray.config.worlds import BuiltInSource
from redi_ray.errors import Gathered
from redi_ray.modeling.tokenizer import another_tokenizer
from redi_ray.pipeline.rounds import written
from redi_ray.pipeline.training_steps import section_for

BUILT_IN = "the built-in world's"
"""What a model of the world's is called in place of a path."""


def check_models_of_steps(config: ExperimentConfig) -> None:
    """Raise ModelError for a model of a step that cannot be loaded; that is to say something of the student's tokens, or to learn
    from them, and has others; or that has fewer tokens than are kept of what it says of each."""
    from redi_ray.modeling.tokenizer import check_model

    trusted, gathered = config.model.overrides.trust_remote_code, Gathered()
    for name, step in config.steps.items():
        if isinstance(step, ModelStep) and isinstance(step.init, PretrainedModel):
            with gathered():
                check_model(f"steps.{name}.init.path", step.init.path, config.model.prompt, trusted)
    gathered.raise_all("models of steps that cannot be loaded")
    for name, step in config.steps.items():
        with gathered():
            if isinstance(step, LogpsStep | SoftTargetsStep) and step.model is not None:
                _check_tokens(config, f"steps.{name}.model", step.model)
            if isinstance(step, TrainStep):
                _check_tokens(config, f"steps.{name}.from", step.start)
            if isinstance(step, SoftTargetsStep):
                _check_kept(config, name, step)
            if isinstance(step, SampleStep):
                _tell_reach(config, name, step)
    gathered.raise_all("models of steps that have other tokens")


def roots_of(config: ExperimentConfig, name: str, behind: tuple[str, ...] = ()) -> set[str]:
    """The models that a model comes from and no step trains: BASE, or names of steps `model`."""
    step = config.steps.get(written(name))
    if isinstance(step, ModelStep):
        return {written(name)}
    before = [step.start] if isinstance(step, TrainStep) else [*step.of] if isinstance(step, MergeStep) else None
    if before is None:
        return {BASE}
    return {root for one in before if one not in behind for root in roots_of(config, one, (*behind, name))}


def _check_tokens(config: ExperimentConfig, field: str, name: str) -> None:
    """Raise ModelError where a model has other tokens than the student. field: what names it."""
    from redi_ray.modeling.tokenizer import ModelError, tokenizer_fingerprints

    for root in sorted(roots_of(config, name) - {BASE}):
        (known, path), (student, base) = (_tokenizer(config, one) for one in (root, BASE))
        if known is None or student is None:
            continue
        if tokenizer_fingerprints(known)["tokenizer"] != tokenizer_fingerprints(student)["tokenizer"]:
            raise ModelError(f"{field}: {another_tokenizer(root, path, base)}")


def _check_kept(config: ExperimentConfig, name: str, step: SoftTargetsStep) -> None:
    """Raise ModelError where more is kept of each token than there are tokens."""
    from redi_ray.modeling.tokenizer import ModelError

    for root in sorted(roots_of(config, step.model)):
        tokenizer, path = _tokenizer(config, root)
        if tokenizer is not None and step.top_k > len(tokenizer):
            raise ModelError(
                f"steps.{name}.top_k: {step.top_k} is more than the {len(tokenizer)} tokens of {root} ({path}); set "
                f"{len(tokenizer)} to keep them all"
            )


def _tell_reach(config: ExperimentConfig, name: str, step: SampleStep) -> None:
    """Say where a model of a step ends its samples before they have the tokens that someone has asked for."""
    generate = section_for(config, name, step)
    asked = generate.max_tokens if isinstance(generate, SampledTraces) else None
    if asked is None or asked == SampledTraces.model_fields["max_tokens"].default:
        return
    for root in sorted(roots_of(config, step.model) - {BASE}):
        longest, where = _reach(config, root)
        if longest is not None and asked > longest:
            log.info("steps.%s: max_tokens is %d; the positions of %s (%s) end samples at %d tokens, prompt included",
                     name, asked, root, where, longest)  # fmt: skip


def _reach(config: ExperimentConfig, root: str) -> tuple[int | None, str]:
    """Tokens that the positions of a step's model reach over, None where there is no such bound; and where it lies."""
    from transformers import AutoConfig

    from redi_ray.modeling.limits import longest_sequence
    from redi_ray.modeling.tokenizer import local_folder

    step, trusted = config.steps[root], config.model.overrides.trust_remote_code
    assert isinstance(step, ModelStep)
    if not isinstance(step.init, PretrainedModel):
        return step.init.architecture.max_position_embeddings, BUILT_IN
    found = AutoConfig.from_pretrained(local_folder(step.init.path), trust_remote_code=trusted)
    return longest_sequence(found), step.init.path


def _tokenizer(config: ExperimentConfig, root: str) -> tuple[Any, str]:
    """Of such a model, and where it lies; None where it is learnt from traces."""
    from redi_ray.data.sources.built_in import alphabet_of
    from redi_ray.modeling.tokenizer import character_tokenizer, load_tokenizer

    step = config.steps.get(root)
    init = step.init if isinstance(step, ModelStep) else config.model.init
    if isinstance(init, PretrainedModel):
        return load_tokenizer(init.path, config.model.overrides.trust_remote_code), init.path
    source = config.problems.source
    if isinstance(init, ArithmeticModel) and isinstance(source, BuiltInSource):
        return character_tokenizer(alphabet_of(source)), BUILT_IN
    return None, ""
