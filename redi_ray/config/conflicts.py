"""What of a config's sections contradicts others, where problems, imported sets and development problems are concerned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.config.answers import VerifySettings
from redi_ray.config.benchmarks import WORLD
from redi_ray.config.data import SampledTraces, VllmTraces
from redi_ray.config.group_steps import ScoreStep
from redi_ray.config.mixture import MixSource
from redi_ray.config.scorers import PassedScorer, RetrievalScorer
from redi_ray.config.step_sections import sections_of
from redi_ray.config.stored_logps import RAW
from redi_ray.config.student import ArithmeticModel, PretrainedModel
from redi_ray.config.worlds import ArithmeticSource, BuiltInSource, QuerySource, ToolArithmeticSource

if TYPE_CHECKING:
    from redi_ray.config.experiment import ExperimentConfig
    from redi_ray.config.steps import ImportStep


def data_conflicts(config: ExperimentConfig) -> list[str]:
    """Of problems and imported sets, and of what needs them: traces, arms, scorers, benchmarks, contamination."""
    source, found = config.problems.source, []
    if isinstance(source, BuiltInSource):
        if isinstance(source, ArithmeticSource) and source.min_digits > source.max_digits:
            found.append("problems.source: min_digits is larger than max_digits")
        if isinstance(source, QuerySource) and source.min_words > source.max_words:
            found.append("problems.source: min_words is larger than max_words")
        found += tool_world_conflicts(config, source)
    elif any(benchmark.name == WORLD for benchmark in config.evaluate.benchmarks):
        found.append("evaluate.benchmarks names `arithmetic`, the built-in world, but problems.source is another")
    if not config.has_problems and (config.has_line or config.problems.dev.share or config.problems.max_problems):
        asks = (
            "generate" if config.has_line else "problems.dev" if config.problems.dev.share else "problems.max_problems"
        )
        found.append(
            f"problems.source.kind is `none`, and {asks} is about problems: name their source, or leave it out"
        )
    if config.redi.arms and not config.has_line:
        found.append(
            f"redi.arms ({', '.join(config.redi.arms)}) train on pairs of `generate`'s traces, and generate.kind is `none`: "
            "make them steps ({do: train, from: base, on: IMPORT, objective: {name: redi}}), or write `generate`"
        )
    if isinstance(source, MixSource) and config.problems.max_problems is not None:
        found.append(
            "problems.max_problems counts rows of one source, and problems.source is a mixture: set its `size`, or max_problems "
            "of the steps that it mixes"
        )
    contamination = config.curate.contamination
    known = config.evaluate.benchmarks or config.problems.dev.share
    if contamination is not None and not contamination.files and not known:
        found.append("curate.contamination has nothing to compare with: name evaluate.benchmarks, or its own files")
    found += [*scorer_conflicts(config), *split_conflicts(config), *judge_conflicts(config)]
    return [*found, *logprob_conflicts(config), *test_conflicts(config)]


def test_conflicts(config: ExperimentConfig) -> list[str]:
    """Of scorers that read what tests have said, where there is nothing that they could read."""
    tested = config.columns_with("tests")
    sections = {name: section for name, _, section in sections_of(config) if isinstance(section, VerifySettings)}
    found = [
        f"evaluate.{name}: `passed` is a scorer of steps `score`: benchmarks have no tests"
        for name in ("score", "rank_by")
        if isinstance(getattr(config.evaluate, name), PassedScorer)
    ]
    for name, step in config.steps.items():
        if not isinstance(step, ScoreStep) or not isinstance(step.scorer, PassedScorer):
            continue
        settings = sections.get(step.of, config.verify).tests
        if not tested:
            found.append(f"steps.{name}.scorer: no problem has tests; name their column, problems.source.columns.tests")
        elif settings is None or not settings.run_all:
            place = f"steps.{step.of}" if step.of in sections else "verify"
            found.append(
                f"steps.{name}.scorer: the share that is passed is known where all tests are run: set {place}.tests.run_all: true"
            )
    return found


def scorer_conflicts(config: ExperimentConfig) -> list[str]:
    """Of scorers that search the catalogue of a built-in world."""
    used = {f"evaluate.{name}": getattr(config.evaluate, name) for name in ("score", "rank_by")}
    used |= {f"steps.{name}.scorer": step.scorer for name, step in config.steps.items() if isinstance(step, ScoreStep)}
    return [
        f"{field}.corpus names no files, and problems.source.kind is `{config.problems.source.kind}`, which has no catalogue: "
        "name the documents to search"
        for field, scorer in used.items()
        if isinstance(scorer, RetrievalScorer)
        and not scorer.corpus
        and not isinstance(config.problems.source, QuerySource)
    ]


def logprob_conflicts(config: ExperimentConfig) -> list[str]:
    """Of log-probs that engines keep, and that must be of what is trained."""
    drawn = {"generate": config.generate, **{f"steps.{name}": section for name, _, section in sections_of(config)}}
    kept = {field: one for field, one in drawn.items() if isinstance(one, VllmTraces) and one.logprobs}
    found = [
        f"{field}.logprobs: engine_kwargs.logprobs_mode must be {RAW}, the default, or they are not the model's own"
        for field, one in kept.items()
        if (one.engine or config.resources.engine).engine_kwargs.get("logprobs_mode", RAW) != RAW
    ]
    teacher = kept.get("generate")
    if teacher is not None and not config.teacher_is_base and not isinstance(config.model.init, PretrainedModel):
        found.append(
            f"generate.logprobs: {teacher.model} has another tokenizer than the model of model.init, which learns its "
            "own. Leave it out; objectives that read the sampler's log-probs need a sampler with the trained model's tokenizer"
        )
    return found


def split_conflicts(config: ExperimentConfig) -> list[str]:
    """Of imports of one set that split it otherwise, so that a topic that one holds out is learnt from by another."""
    found: list[str] = []
    first: dict[str, tuple[str, ImportStep]] = {}
    for name, step in config.imports.items():
        key = step.source.model_dump_json()
        other, before = first.setdefault(key, (name, step))
        mine, theirs = (one.split.model_copy(update={"take": "train"}) if one.split else None for one in (step, before))
        if mine != theirs:
            found.append(
                f"steps.{name} and steps.{other} import one set and split it otherwise, so that a topic would stand on both "
                "sides: give both the same split, but for `take`"
            )
    return found


def judge_conflicts(config: ExperimentConfig) -> list[str]:
    """Of questions to judges that the evaluation asks."""
    asked = [name for name, step in config.imports.items() if step.judge is not None]
    return [
        f"evaluate.judge_on.{name}: {step} is no step `import` with `judge`; there are {', '.join(asked) or 'none'}"
        for name, step in config.evaluate.judge_on.items()
        if step not in asked
    ]


def tool_world_conflicts(config: ExperimentConfig, source: BuiltInSource) -> list[str]:
    """Of the world whose problems need a tool."""
    if not isinstance(source, ToolArithmeticSource):
        return []
    found = [] if source.least < source.largest else ["problems.source: least is not smaller than largest"]
    drawn = {"evaluate.tools": config.evaluate.tools} if config.evaluate.benchmarks else {}
    if isinstance(config.generate, SampledTraces):
        drawn["generate.tools"] = config.generate.tools
    found += [
        f"{field} must be {{names: [calculator], marks: {{calculator: ['[', ']']}}, output: '{{output}}'}}, or of that kind: "
        "problems.source is the world of tools"
        for field, tools in drawn.items()
        if tools is None or tools.calls.get("calculator") != ("[", "]")
    ]
    if isinstance(config.model.init, ArithmeticModel) and config.model.prompt.tool_role != "user":
        found.append("model.prompt.tool_role must be user: the built-in model's vocabulary has no turns of a tool")
    return found


def development_conflicts(config: ExperimentConfig) -> list[str]:
    """Of the problems that trainings are measured on."""
    source, init, found = config.problems.source, config.model.init, []
    built_in = isinstance(source, BuiltInSource)
    if built_in and config.problems.dev.share > 0:
        found.append("problems.dev.share is for other sources: the built-in world has problems.source.num_dev")
    if config.probes and (source.num_dev == 0 if isinstance(source, BuiltInSource) else not config.problems.dev.share):
        field = "problems.source.num_dev" if built_in else "problems.dev.share"
        lack = (
            f"{field} is 0: hold problems out for it"
            if config.has_problems
            else "there are no problems to measure it on"
        )
        found.append(f"a probe is set for {', '.join(config.probes)}, but {lack}")
    if isinstance(init, ArithmeticModel) and init.train.probe is not None:
        found.append("model.init.train.probe: the built-in base model is not measured while it trains; leave it out")
    return found
