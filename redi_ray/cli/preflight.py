"""What can be known to be wrong before Ray starts or a GPU is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from redi_ray.cli.preflight_models import check_models_of_steps
from redi_ray.cli.preflight_sources import check_problems
from redi_ray.cluster.runtime import log
from redi_ray.config.curation import CurateConfig
from redi_ray.config.data import EndpointTraces, Generate, HubSet, SampledTraces, VllmTraces
from redi_ray.config.embedders import ModelEmbedder
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import ScoreStep
from redi_ray.config.locators import LocateStep
from redi_ray.config.perturb import PerturbStep
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.reward_objectives import VALUED
from redi_ray.config.scorers import RewardScorer, Scorer
from redi_ray.config.step_judges import AskStep, GenerativeJudge, StepQuestion
from redi_ray.config.step_sections import all_embedders, curations_of, judges_of
from redi_ray.config.steps import ImportStep
from redi_ray.config.stored_logps import WAY_OUT
from redi_ray.config.student import ArithmeticModel, PretrainedModel
from redi_ray.config.trace_rewards import SimilarityScorer
from redi_ray.config.training_steps import TrainStep
from redi_ray.config.worlds import BuiltInSource
from redi_ray.errors import Gathered, StorageError, listed
from redi_ray.modeling.limits import Bound
from redi_ray.store import storage


def preflight(config: ExperimentConfig) -> None:
    """Everything that can be known to be wrong before Ray starts or a GPU is held.

    Raises DataError, ModelError, EndpointError or BenchmarkError; several mistakes as one error that lists them.
    """
    gathered = Gathered()
    checks = (
        *(_check_storage, check_sources, _check_student, _check_teacher, check_models_of_steps),
        *(_check_judges, _check_judges_of_steps, _check_benchmarks, _check_embedders),
    )
    for check in checks:
        with gathered():
            check(config)
    gathered.raise_all("this cannot be run")


def _check_storage(config: ExperimentConfig) -> None:
    """Raise StorageError for a place of a kind that runs cannot lie in."""
    try:
        storage.resolve(config.run_uri)
    except StorageError as error:
        raise StorageError(f"storage.root: {error}") from error


def _check_student(config: ExperimentConfig) -> None:
    """Raise ModelError where the student cannot be used, or does not fit the config."""
    from redi_ray.modeling.tokenizer import ModelError, check_model

    if isinstance(config.model.init, PretrainedModel):
        trusted = config.model.overrides.trust_remote_code
        check_model("model.init.path", config.model.init.path, config.model.prompt, trusted)
    if problems := model_problems(config):
        raise listed(ModelError, "the model and this config do not fit", problems)


def _check_teacher(config: ExperimentConfig) -> None:
    from redi_ray.data.sample.endpoint_check import endpoint_key
    from redi_ray.modeling.tokenizer import check_model

    if isinstance(config.generate, VllmTraces) and not config.teacher_is_base:
        prompt = config.generate.prompt or config.model.prompt
        engine = config.generate.engine or config.resources.engine
        check_model("generate.model", config.generate.model, prompt, engine.trusts_code)
        if config.generate.logprobs and isinstance(config.model.init, PretrainedModel):
            _check_sampler(config.generate.model, config.model.init.path, engine.trusts_code)
    if isinstance(config.generate, EndpointTraces):
        endpoint_key("generate.endpoint", config.generate.endpoint)


def _check_judges(config: ExperimentConfig) -> None:
    from redi_ray.data.sample.endpoint_check import endpoint_key
    from redi_ray.modeling.tokenizer import check_model

    gathered = Gathered()
    for field, judge in judges_of(config).items():
        with gathered():
            if judge.model is not None:
                trusted = (judge.engine or config.resources.engine).trusts_code
                check_model(f"{field}.model", judge.model, PromptSettings(system=judge.system, prefix=""), trusted)
            if judge.endpoint is not None:
                endpoint_key(f"{field}.endpoint", judge.endpoint)
    gathered.raise_all("judges")


def _check_embedders(config: ExperimentConfig) -> None:
    """Raise ModelError for a folder of an embedding model that holds none."""
    from redi_ray.modeling.tokenizer import ModelError, is_folder
    from redi_ray.store import storage

    for field, embedder in all_embedders(config).items():
        if not isinstance(embedder, ModelEmbedder) or not is_folder(embedder.path):
            continue
        if not storage.exists(storage.join(storage.resolve(embedder.path), "config.json")):
            raise ModelError(
                f"{field}.path: {embedder.path} holds no config.json; name the folder of a sentence-embedding model, "
                "or take `{name: words}`, which needs none"
            )


def _check_sampler(sampler: str, student: str, trusted: bool) -> None:
    """Raise ModelError where a model whose log-probs are kept has other tokens than the one that is trained."""
    from redi_ray.modeling.tokenizer import ModelError, load_tokenizer, tokenizer_fingerprints

    prints = [tokenizer_fingerprints(load_tokenizer(model, trusted))["tokenizer"] for model in (sampler, student)]
    if len(set(prints)) > 1:
        raise ModelError(
            f"generate.logprobs: {sampler} has another tokenizer than model.init.path {student}, so that its log-probs are "
            f"of other tokens than are trained. Leave it out, and {WAY_OUT}"
        )


def _check_judges_of_steps(config: ExperimentConfig) -> None:
    """Raise ModelError for a judge of its own that cannot be asked, and for words that a judge's tokenizer cannot tell apart."""
    from redi_ray.modeling.tokenizer import check_model

    guided = config.evaluate.guided.judge if config.evaluate.guided is not None else None
    judges: dict[str, GenerativeJudge] = {} if guided is None else {"evaluate.guided.judge": guided}
    for name, step in config.steps.items():
        if isinstance(step, AskStep):
            _check_words(config, f"steps.{name}.question", step.question, None)
        judge = step.locator if isinstance(step, LocateStep) else None
        judges |= {f"steps.{name}.locator": judge} if isinstance(judge, GenerativeJudge) else {}
    for field, asked in judges.items():
        if asked.model is not None:
            trusted = (asked.engine or config.resources.engine).trusts_code
            check_model(f"{field}.model", asked.model, PromptSettings(prefix=""), trusted)
        _check_words(config, f"{field}.question", asked.question, asked)


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
    elif isinstance(init, ArithmeticModel) and isinstance(config.problems.source, BuiltInSource):
        tokenizer, whose = (
            character_tokenizer(alphabet_of(config.problems.source)),
            "the built-in model, which has no letters",
        )
    else:
        return
    if (misfit := words_misfit(question, tokenizer)) is not None:
        raise ModelError(f"{field}: {misfit}, in the tokenizer of {whose}")


def _check_benchmarks(config: ExperimentConfig) -> None:
    from redi_ray.eval.benchmarks import BenchmarkError, load_benchmark

    gathered = Gathered()
    for benchmark in config.evaluate.benchmarks:
        if benchmark.path is not None:
            with gathered():
                try:
                    load_benchmark(benchmark)
                except BenchmarkError as error:
                    raise BenchmarkError(f"evaluate.benchmarks: {benchmark.name}: {error}") from error
    gathered.raise_all("benchmarks that cannot be used")


def check_sources(config: ExperimentConfig) -> None:
    """Raise DataError where problems, imported sets or files of the user's are not there, or the first rows of a set cannot be
    read, or not be learnt from by an objective."""
    gathered = Gathered()
    with gathered():
        check_problems(config)
    for look in _looks(config):
        with gathered():
            look()
    if isinstance(config.generate, SampledTraces) and config.generate.tools is not None:
        log.info(
            "generate.tools: traces of several turns are learnt from by steps `groups`; positives and pairs leave them out"
        )
    if not config.has_line:
        log.info("generate.kind is none: no traces, no stage 1, no arms; what is trained are the steps of `steps`")
    for name, step in config.imports.items():
        with gathered():
            _check_import(config, name, step)
    gathered.raise_all("data that cannot be used")


def _looks(config: ExperimentConfig) -> Iterator[Callable[[], object]]:
    """A look at each of the user's files besides: problems to keep away, and what steps and the evaluation read."""
    from redi_ray.data.curate.contamination import read_problems
    from redi_ray.data.locate import LOCATORS
    from redi_ray.data.perturb.imported import look_at_variants
    from redi_ray.eval.scoring import scorers_of

    for field, curation in curations_of(config).items():
        for file in curation.contamination.files if curation.contamination is not None else ():
            yield partial(read_problems, file, field)
    for name, step in config.steps.items():
        if isinstance(step, ScoreStep):
            yield partial(look_at_scorer, step.scorer, f"steps.{name}.scorer")
        if isinstance(step, LocateStep):
            yield partial(LOCATORS[step.locator.kind].look, step.locator, f"steps.{name}.locator")
        if isinstance(step, PerturbStep) and step.imported is not None:
            yield partial(look_at_variants, step.imported, f"steps.{name}.imported")
    for field, scorer in scorers_of(config.evaluate).items():
        yield partial(look_at_scorer, scorer, f"evaluate.{field}")
    if config.evaluate.guided is not None and config.evaluate.guided.reward is not None:
        yield partial(look_at_scorer, config.evaluate.guided.reward, "evaluate.guided")


def look_at_scorer(scorer: Scorer, where: str) -> None:
    """Raise DataError, or UserError for a folder that holds no such model, where what a scorer reads is not there."""
    from redi_ray.data.score import SCORERS
    from redi_ray.data.score.reward import config_of, look_at_head

    if isinstance(scorer, RewardScorer | SimilarityScorer):
        look = look_at_head if isinstance(scorer, RewardScorer) else config_of
        if scorer.folder is not None:
            look(scorer.folder, f"{where}.model")
    else:
        SCORERS[scorer.name].look(scorer, where)


def _check_import(config: ExperimentConfig, name: str, step: ImportStep) -> None:
    from redi_ray.data.sources.import_sets import look
    from redi_ray.data.sources.readers import DataError
    from redi_ray.pipeline.learnt import import_misfit

    if isinstance(step.source, HubSet):  # the hub is asked when the step is made
        return
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

    rewards = any(isinstance(step, TrainStep) and step.objective.name in VALUED for step in config.steps.values())
    return student_problems(init.path, config.model.overrides, prompt, trainings, bound=bound, own=own, rewards=rewards)


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
