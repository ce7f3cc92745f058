"""What the command line and `jobs/` share: load the config, check it against the world, connect, run, report errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import check_capacity, require_room, with_devices
from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.preemption import end_main_thread, ends_on_sigterm
from redi_ray.cluster.runtime import log, ray_connection, setup_logging
from redi_ray.config.curation import CurateConfig
from redi_ray.config.data import (
    ArithmeticSource,
    EndpointTraces,
    FileSet,
    FilesSource,
    Generate,
    OpenR1Source,
    SampledTraces,
    VllmTraces,
)
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import ScoreStep
from redi_ray.config.load import load_config
from redi_ray.config.locators import LocateStep, StepJudge
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import ImportedScorer
from redi_ray.config.step_judges import AskStep, GenerativeJudge, StepQuestion
from redi_ray.config.steps import TrainStep
from redi_ray.config.student import ArithmeticModel, PretrainedModel
from redi_ray.modeling.limits import Bound
from redi_ray.store import storage
from redi_ray.store.lock import run_lock

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Graph
    from redi_ray.pipeline.runner import Pipeline


@contextmanager
def writing(run_uri: str) -> Iterator[None]:
    """Inside the block this process alone writes the run, and SIGTERM ends it in order. Enter it before Ray starts.

    Raises RunLocked if another driver writes it, StorageError if its place cannot be written; in the block LockLost if
    another driver has taken the run over.
    """
    with ends_on_sigterm(), run_lock(run_uri, on_lost=end_main_thread):
        storage.check_writable(run_uri)
        yield


def run_stages(
    config_uri: str,
    overrides: list[str],
    call: Callable[[Pipeline], str],
    check: Callable[[ExperimentConfig, Graph], object] | None = None,
) -> None:
    """Load and check a config, connect to Ray, call one or more stages, and print the line that `call` returns.

    check: what must be there in the config and its graph, or it raises before anything starts.
    """
    setup_logging()
    with clear_errors():
        config = load_config(config_uri, overrides)
        if config.search is not None:
            log.info("search: left aside; `redi-ray tune` runs it")
        from redi_ray.pipeline.runner import Pipeline
        from redi_ray.pipeline.standard import graph_of

        graph = graph_of(config)  # whose mistakes are told first
        if check is not None:
            check(config, graph)
        preflight(config)

        with writing(config.run_uri), ray_connection(config.resources.ray):
            config = with_devices(config)
            check_room(config)
            print(call(Pipeline(config)))


def check_room(config: ExperimentConfig) -> None:
    """Raise CapacityError where a stage would wait for ever for what the connected Ray does not have, see `check_capacity`.

    The memory of ranks is among it, or it would be missed only when all traces are there.
    """
    from redi_ray.search.capacity import float32_copy
    from redi_ray.train.on_ray.room import FLOAT32, rank_bytes

    check_capacity(config.resources, config.engines, config.verify.processes, config.trainers)
    parameters, adapters = int(float32_copy(config) / FLOAT32), config.model.overrides.lora is not None
    for field, trainer in config.trainers.items():
        held = float(rank_bytes(parameters, trainer.pool[0], trainer.use_gpu, adapters))
        require_room(field, [{"memory": held}] * trainer.pool[0], trainer.label_selector)


def preflight(config: ExperimentConfig) -> None:
    """Everything that can be known to be wrong before Ray starts or a GPU is held.

    Raises DataError, ModelError, EndpointError or BenchmarkError.
    """
    from redi_ray.data.sample.endpoint_check import endpoint_key
    from redi_ray.eval.benchmarks import load_benchmark
    from redi_ray.modeling.tokenizer import ModelError, check_model

    check_sources(config)
    if isinstance(config.model.init, PretrainedModel):
        trusted = config.model.overrides.trust_remote_code
        check_model("model.init.path", config.model.init.path, config.model.prompt, trusted)
    if isinstance(config.generate, VllmTraces) and not config.teacher_is_base:
        prompt = config.generate.prompt or config.model.prompt
        engine = config.generate.engine or config.resources.engine
        check_model("generate.model", config.generate.model, prompt, engine.trusts_code)
    if problems := model_problems(config):
        raise ModelError("\n".join(["the model and this config do not fit:", *problems]))
    if isinstance(config.generate, EndpointTraces):
        endpoint_key("generate.endpoint", config.generate.endpoint)
    for field, judge in config.judges.items():
        if judge.model is not None:
            trusted = (judge.engine or config.resources.engine).trusts_code
            check_model(f"{field}.model", judge.model, PromptSettings(system=judge.system, prefix=""), trusted)
        if judge.endpoint is not None:
            endpoint_key(f"{field}.endpoint", judge.endpoint)
    _check_locators(config)
    for benchmark in config.evaluate.benchmarks:
        if benchmark.path is not None:
            load_benchmark(benchmark)


def _check_locators(config: ExperimentConfig) -> None:
    """Raise ModelError or EndpointError for a judge of steps, other than a model of the graph, that cannot be asked, and for
    words that a judge's tokenizer cannot tell apart."""
    from redi_ray.data.sample.endpoint_check import endpoint_key
    from redi_ray.modeling.tokenizer import check_model

    for name, step in config.steps.items():
        if isinstance(step, AskStep):
            _check_words(config, f"steps.{name}.question", step.question, None)
        judge = step.locator if isinstance(step, LocateStep) else None
        if not isinstance(judge, StepJudge | GenerativeJudge):
            continue
        if judge.model is not None:
            prompt = PromptSettings(system=judge.system if isinstance(judge, StepJudge) else None, prefix="")
            trusted = (judge.engine or config.resources.engine).trusts_code
            check_model(f"steps.{name}.locator.model", judge.model, prompt, trusted)
        elif isinstance(judge, StepJudge) and judge.endpoint is not None:
            endpoint_key(f"steps.{name}.locator.endpoint", judge.endpoint)
        if isinstance(judge, GenerativeJudge):
            _check_words(config, f"steps.{name}.locator.question", judge.question, judge)


def _check_words(config: ExperimentConfig, field: str, question: StepQuestion, judge: GenerativeJudge | None) -> None:
    """Raise ModelError where the tokenizer is known: a judge's own, or the student's, unless that is learnt from traces."""
    from redi_ray.data.sources.built_in import alphabet_of
    from redi_ray.modeling.tokenizer import ModelError, character_tokenizer, load_tokenizer
    from redi_ray.text.step_verdicts import words_misfit

    init, engine = config.model.init, (judge and judge.engine) or config.resources.engine
    if judge is not None and judge.model is not None:
        tokenizer, whose = load_tokenizer(judge.model, engine.trusts_code), judge.model
    elif isinstance(init, PretrainedModel):
        tokenizer, whose = load_tokenizer(init.path, config.model.overrides.trust_remote_code), init.path
    elif isinstance(init, ArithmeticModel) and isinstance(config.problems.source, ArithmeticSource):
        tokenizer, whose = (
            character_tokenizer(alphabet_of(config.problems.source)),
            "the built-in model, which has no letters",
        )
    else:
        return
    if (misfit := words_misfit(question, tokenizer)) is not None:
        raise ModelError(f"{field}: {misfit}, in the tokenizer of {whose}")


def check_sources(config: ExperimentConfig) -> None:
    """Raise DataError where problems or imported sets are not there, or the first rows of a set cannot be read, or not be learnt
    from by an objective."""
    from redi_ray.data.score.imported import look as look_at_numbers
    from redi_ray.data.sources.built_in import splits_of
    from redi_ray.data.sources.import_sets import look
    from redi_ray.data.sources.readers import DataError, expand_paths
    from redi_ray.pipeline.asked import import_misfit

    source = config.problems.source
    if isinstance(source, FilesSource) or (isinstance(source, OpenR1Source) and source.paths):
        expand_paths(source.paths)
    if isinstance(source, ArithmeticSource):
        splits_of(source)
    for name, scoring in config.steps.items():
        if isinstance(scoring, ScoreStep) and isinstance(scoring.scorer, ImportedScorer):
            look_at_numbers(scoring.scorer, f"steps.{name}.scorer")
    if not config.has_line:
        log.info("generate.kind is none: no traces, no stage 1, no arms; what is trained are the steps of `steps`")
    for name, step in config.imports.items():
        if isinstance(step.source, FileSet):  # the hub is asked when the step is made
            layout = look(step, config.model.prompt, f"steps.{name}")
            log.info("steps.%s: read as %s", name, layout)
            for training, settings in config.steps.items():
                if not isinstance(settings, TrainStep) or settings.on != name:
                    continue
                if why := import_misfit(settings.objective.name, layout):
                    raise DataError(f"steps.{training}: {why}")


def model_problems(config: ExperimentConfig) -> list[str]:
    """What model and tokenizer decide, and would end the run in a worker after hours of data stages; a line for each."""
    from redi_ray.modeling.limits import length_problems

    init, prompt = config.model.init, config.model.prompt
    trainings, bound, own = config.trainings, sequence_bound(config.curate, config.generate), bounds_of_steps(config)
    if not isinstance(init, PretrainedModel):
        return length_problems(init.architecture.max_position_embeddings, 0, trainings, bound, own=own)
    from redi_ray.modeling.preflight import student_problems  # loads torch

    return student_problems(init.path, config.model.overrides, prompt, trainings, bound=bound, own=own)


def bounds_of_steps(config: ExperimentConfig) -> dict[str, Bound]:
    """Of the sequences that named trainings learn from, by the field of their settings."""
    from redi_ray.pipeline.rounds import last_round
    from redi_ray.pipeline.standard import graph_of

    graph, found = graph_of(config), {}
    for name, settings in config.steps.items():
        if not isinstance(settings, TrainStep):
            continue
        pairs = graph[graph[last_round(config, name)].inputs["groups"]]
        if pairs.kind == "import":  # whose lengths nothing bounds
            continue
        source = graph[pairs.inputs["of"]]
        while "of" in source.inputs:
            source = graph[source.inputs["of"]]
        curate, generate = pairs.sections.get("curate", config.curate), source.sections.get("generate", config.generate)
        fields = tuple(
            f"steps.{step.name}" if step.sections else field
            for step, field in ((pairs, "curate"), (source, "generate"))
        )
        found[f"steps.{name}.train"] = sequence_bound(curate, generate, *fields)
    return found


def sequence_bound(
    curate: CurateConfig, generate: Generate, curate_field: str = "curate", generate_field: str = "generate"
) -> Bound:
    """Of prompt and completion, by what curation lets pass and generation samples."""
    default, response = CurateConfig(), curate.max_response_tokens
    fields = f"{curate_field}.max_prompt_tokens + {curate_field}.max_response_tokens"
    if isinstance(generate, SampledTraces) and generate.max_tokens < response:
        response, fields = generate.max_tokens, f"{curate_field}.max_prompt_tokens + {generate_field}.max_tokens"
    chosen = (curate.max_prompt_tokens, curate.max_response_tokens) != (
        default.max_prompt_tokens,
        default.max_response_tokens,
    )
    return Bound(curate.max_prompt_tokens + response, fields, chosen)
