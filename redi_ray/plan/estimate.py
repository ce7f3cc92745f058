"""Every step of the graph: tokens, operations and GPU-hours where a model runs, and what is expected of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from redi_ray.config.benchmarks import HUB, WORLD
from redi_ray.config.data import EndpointTraces, SampledTraces, VllmTraces
from redi_ray.config.evaluation import BenchmarkSettings
from redi_ray.config.experiment import ArithmeticModel
from redi_ray.config.guided import GuidedSettings
from redi_ray.config.locators import RolloutLocator, StepJudge
from redi_ray.config.resources import EngineSettings
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.trace_rewards import SimilarityScorer
from redi_ray.config.worlds import BuiltInSource
from redi_ray.eval.scoring import scorers_of
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.pipeline.rounds import written
from redi_ray.plan.asking import in_turns, to_go_on, to_judge, to_reword, to_search, to_weigh
from redi_ray.plan.assumptions import Assumptions
from redi_ray.plan.costs import Beside, Inputs, Plan, StageCost
from redi_ray.plan.derived import workload_of
from redi_ray.plan.engines import Asked, at_endpoint, on_engine
from redi_ray.plan.footprint import bytes_of_record, stage_memory, storage
from redi_ray.plan.grouped import KeptWorkload
from redi_ray.plan.trainings import (
    contrast_cost,
    corpus_cost,
    logps_cost,
    reference_costs,
    rehearsal_cost,
    reward_cost,
    training_cost,
    training_of,
    trainings,
    valued_cost,
)
from redi_ray.plan.varied import SOURCES, told_of_source, variants_of
from redi_ray.plan.workload import Side, Workload, groups_read
from redi_ray.stages.training import REHEARSED

Lines = Iterator[StageCost | Beside]


def estimate(inputs: Inputs, assume: Assumptions) -> Plan:
    """The plan of a config."""
    plan = _Estimate(inputs, assume).plan()
    return replace(plan, stages=[_priced(stage, inputs.config.resources.gpu_hour_price) for stage in plan.stages])


def _priced(stage: StageCost, gpu_hour: float | None) -> StageCost:
    if gpu_hour is None or stage.gpu_hours is None:
        return stage
    return replace(stage, price=(stage.price or 0.0) + gpu_hour * stage.gpu_hours)


class _Estimate:
    """One pass over the steps, which notes what each of them assumes."""

    def __init__(self, inputs: Inputs, assume: Assumptions) -> None:
        self.inputs, self.config, self.assume = inputs, inputs.config, assume
        self.whole = Workload(inputs.config, inputs.sample, assume)
        self.by_kind: dict[str, Callable[[Step], Lines]] = {
            **dict.fromkeys(SOURCES, self._source),
            "grade": lambda step: self._beside(step, "a verdict by a number for traces that nothing else judges"),
            "import": lambda step: self._beside(step, self.inputs.sample.imported[written(step.name)].note),
            "dev": lambda step: self._beside(step, "held out of the problems"),
            "base": self._base,
            "sample": self._sample,
            "verify": self._verify,
            "select": self._select,
            "pairs": self._pairs,
            "score": self._score,
            "locate": self._locate,
            "contrast": self._contrast,
            "ask": lambda step: self._beside(
                step, f"a question about each labelled step of up to {self._work(step).traces:,.0f} traces"
            ),
            "state": lambda step: self._beside(step, "a trace for each problem, which no model writes"),
            "pose": lambda step: self._beside(step, f"a problem of each of {self._work(step).traces:,.0f} traces"),
            "openings": lambda step: self._beside(step, "the first turn of each dialogue"),
            "hand_over": lambda step: self._beside(
                step, f"a dialogue of each of {self._work(step).traces:,.0f} traces"
            ),
            "compare": lambda step: self._beside(step, "two columns of steps"),
            "reflect": lambda step: self._beside(step, "how often samples look back"),
            "perturb": lambda step: self._beside(
                step, f"up to {variants_of(self.inputs.graph, step, self.whole):,.0f} problems"
            ),
            "paraphrase": self._paraphrase,
            "robustness": lambda step: self._beside(step, "accuracy on variants against originals"),
            "logps": self._logps,
            "soft_targets": self._soft_targets,
            "examine": lambda step: self._beside(step, "a question about each sample of the groups"),
            "self_verify": lambda step: self._beside(
                step, f"about {self._work(step).groups:,} texts, of several attempts each"
            ),
            "check": lambda step: self._beside(step, "two columns of tokens"),
            "groups": self._groups,
            "starts": lambda step: self._beside(step, "where wrong traces go wrong: all of them, at the most"),
            "token_starts": lambda step: self._beside(
                step, f"{step.settings.max_samples:,} wrong traces, token by token"
            ),
            "critical": lambda step: self._beside(step, "how small a column's numbers are where wrong traces are lost"),
            "rectify": lambda step: self._beside(step, "pairs of one step each; how many is not known"),
            "train": self._train,
            "merge": self._merge,
            "model": self._model,
            "evaluate": self._evaluate,
        }

    def plan(self) -> Plan:
        lines: list[StageCost | Beside] = []
        for step in self.inputs.graph:
            self.assume.used.clear()
            for line in self.by_kind.get(step.kind, self._unknown)(step):
                lines.append(line)
                self.assume.used.clear()
        stages = [line for line in lines if isinstance(line, StageCost)]
        memory = [stage_memory(self.inputs, self._read_by(each.groups), each) for each in trainings(self.inputs)]
        self.assume.used.clear()
        stored = storage(self.inputs, self.whole, stages)
        beside = [line for line in lines if isinstance(line, Beside)]
        return Plan(stages, beside, memory, stored, sorted(self.assume.used))

    def _work(self, step: Step) -> Workload:
        return workload_of(self.inputs.graph, step.name, self.whole)

    def _read_by(self, groups: str | None) -> Workload:
        return self.whole if groups is None else workload_of(self.inputs.graph, groups, self.whole)

    def _source(self, step: Step) -> Lines:
        yield from self._beside(step, told_of_source(self.inputs.graph, step, self.whole))

    def _beside(self, step: Step, note: str) -> Lines:
        yield Beside(step.name, note, sorted(self.assume.used))

    def _locate(self, step: Step) -> Lines:
        work, locator = self._work(step), step.settings.locator
        if isinstance(locator, StepJudge):
            asked = to_judge(step, locator, work)
            if locator.endpoint is not None:
                yield at_endpoint(asked, locator.endpoint, self.assume)
            else:
                yield self._on_engine(asked, step, locator.engine or self.config.resources.engine, locator.max_tokens)
        elif isinstance(locator, RolloutLocator):
            yield self._on_engine(to_go_on(step, locator, work), step, self.config.resources.engine, locator.max_tokens)
        else:
            priced = "; what `step_judge` asks of a model has no price here" if locator.kind == "step_judge" else ""
            yield from self._beside(step, f"steps of up to {work.traces:,.0f} traces{priced}")

    def _unknown(self, step: Step) -> Lines:
        yield Beside(step.name, f"the plan has no price for steps of the kind `{step.kind}`")

    # ------------------------------------------------------------------------------------------------------- the traces

    def _sample(self, step: Step) -> Lines:
        work = self._work(step)
        generate = work.config.generate
        asked = Asked(step.name if step.own else "generate", [step.name], work.traces, work.prompt, work.trace_tokens)
        if isinstance(generate, SampledTraces):
            asked = in_turns(asked, generate.tools, self.assume)
        if isinstance(generate, EndpointTraces):
            yield at_endpoint(asked, generate.endpoint, self.assume)
        elif isinstance(generate, VllmTraces):
            engine = generate.engine or self.config.resources.engine
            yield self._on_engine(asked, step, engine, generate.max_tokens)
        else:
            self.assume.used.clear()  # lengths, which are not told
            yield from self._beside(step, f"{work.traces:,.0f}, which come with the problems")

    def _verify(self, step: Step) -> Lines:
        work = self._work(step)
        judge = work.config.verify.judge
        if judge is None:
            yield from self._beside(step, f"{work.traces:,.0f} traces")
            return
        samples = work.traces * (1.0 if judge.ask == "all" else 1 - work.share("correct"))
        written = min(self.assume["judge_tokens"], judge.max_tokens)
        seen = (len(judge.prompt) + judge.tail_chars) / self.assume["bytes_per_token"] + work.prompt
        asked = Asked(step.name if step.own else "judge", [step.name], samples, seen, written, shared=False)
        if judge.endpoint is not None:
            yield at_endpoint(asked, judge.endpoint, self.assume)
        else:
            yield self._on_engine(asked, step, judge.engine or self.config.resources.engine, judge.max_tokens)

    def _paraphrase(self, step: Step) -> Lines:
        """What the model writes, and what the judge then reads."""
        settings, before = step.settings, variants_of(self.inputs.graph, step, self.whole)
        problems = before / (1 + settings.originals)
        for name, model, asked in to_reword(step, problems, self.whole):
            if model.endpoint is not None:
                yield at_endpoint(asked, model.endpoint, self.assume)
            else:
                engine, shape = model.engine or self.config.resources.engine, self.inputs.engines[name]
                yield on_engine(asked, shape, engine, model.max_tokens, self.inputs.gpu, self.assume)

    def _select(self, step: Step) -> Lines:
        work = self._work(step)
        samples = f"{work.traces:,.0f} traces" if isinstance(work, KeptWorkload) else "traces"
        yield from self._beside(step, f"{samples} of {work.problems:,.0f} problems")

    def _on_engine(self, asked: Asked, step: Step, engine: EngineSettings, longest: int) -> StageCost:
        return on_engine(asked, self.inputs.engines[step.name], engine, longest, self.inputs.gpu, self.assume)

    def _pairs(self, step: Step) -> Lines:
        work = self._work(step)
        yield from self._beside(step, f"{work.positives:,} positives and {work.pairs:,} pairs")

    def _groups(self, step: Step) -> Lines:
        work = self._work(step)
        of = f"{work.traces:,.0f} traces of {work.problems:,.0f} problems"
        members = sum(side.each for side in work.members)
        yield from self._beside(step, f"{work.groups:,} groups of {members:.3g} samples, from {of}")

    # ------------------------------------------------------------------------------------------------------- the models

    def _base(self, step: Step) -> Lines:
        init = self.config.model.init
        if isinstance(init, ArithmeticModel):
            yield corpus_cost(self.inputs, self.whole, step.name, init)
        else:
            yield from self._beside(step, f"{self.inputs.student.name}, as it is")

    def _train(self, step: Step) -> Lines:
        each = training_of(self.config, step)
        assert each is not None
        work = self._read_by(each.groups)
        yield from reference_costs(self.inputs, work, step)
        yield training_cost(self.inputs, work, each)
        if (rehearsal := each.recipe.rehearsal) is not None:
            steps = each.settings.total_steps(groups_read(work, each.recipe))
            yield rehearsal_cost(self.inputs, self._read_by(step.inputs[REHEARSED]), each, rehearsal, steps)

    def _score(self, step: Step) -> Lines:
        work = self._work(step)
        if isinstance(step.settings, RewardScorer | SimilarityScorer):
            note = "a reward model" if isinstance(step.settings, RewardScorer) else "embeddings of steps"
            yield reward_cost(self.inputs, work, step, note)
        else:
            yield from self._beside(step, f"a column of {work.traces:,.0f} traces")

    def _contrast(self, step: Step) -> Lines:
        yield contrast_cost(self.inputs, self._work(step), step)

    def _logps(self, step: Step) -> Lines:
        if STORED in step.inputs:
            yield from self._beside(step, "the engine's own numbers, stored as it sampled")
        else:
            yield logps_cost(self.inputs, self._work(step), step)

    def _soft_targets(self, step: Step) -> Lines:
        teacher, size = self.inputs.shape_of(step.inputs["model"]), bytes_of_record(self.inputs, step)
        yield logps_cost(self.inputs, self._work(step), step, f"{teacher.name}; {size} bytes a token on disk")

    def _model(self, step: Step) -> Lines:
        init = step.settings.init
        if isinstance(init, ArithmeticModel):
            yield corpus_cost(self.inputs, self.whole, step.name, init)
        else:
            yield from self._beside(step, f"{self.inputs.shape_of(step.name).name}, as it is")

    def _merge(self, step: Step) -> Lines:
        yield from self._beside(step, f"the mean of {', '.join(step.inputs.values())}")

    def _evaluate(self, step: Step) -> Lines:
        """One line for all models of a size, which the last one has: they are asked the same questions."""
        steps = [other.name for other in self.inputs.graph if other.kind == step.kind]
        if step.name != steps[-1]:
            return
        evaluate, models = self.config.evaluate, len(steps)
        samples = sum(
            self.inputs.benchmark_problems[benchmark.name] * (benchmark.num_samples or evaluate.num_samples)
            for benchmark in evaluate.benchmarks
        )
        asked_of = [self.inputs.sample.imported[written(last)] for last in evaluate.judge_on.values()]
        samples += sum(questions.groups * evaluate.num_samples for questions in asked_of)
        answers = float(self.whole.answers().mean())
        asked = Asked(f"evaluate ({models} models)", steps, float(samples * models), self.whole.prompt, answers)
        asked, engine = in_turns(asked, evaluate.tools, self.assume), self.config.resources.engine
        sizes = {name: self.inputs.shape_of(self.inputs.graph[name].inputs["model"]) for name in steps}
        for shape in sorted({*sizes.values()}, key=lambda shape: (shape != self.inputs.student, shape.name)):
            these = [name for name in steps if sizes[name] == shape]
            called = f"evaluate ({len(these)} models{'' if shape == self.inputs.student else f', {shape.name}'})"
            part = replace(asked, name=called, steps=these, samples=asked.samples * len(these) / models)
            yield on_engine(part, shape, engine, evaluate.max_tokens, self.inputs.gpu, self.assume)
        for field, scorer in scorers_of(evaluate).items():
            if isinstance(scorer, RewardScorer):
                side = Side(self.whole.prompt, self.whole.answers())
                yield valued_cost(self.inputs, self.whole, f"evaluate: {field}", steps, [(side, asked.samples)])
        if evaluate.guided is not None:
            yield from self._search(evaluate.guided, steps, asked)

    def _search(self, guided: GuidedSettings, steps: list[str], whole: Asked) -> Lines:
        """What is drawn step by step, and what is asked about the steps. whole: of an answer at a time, of all models."""
        evaluate, engine = self.config.evaluate, self.config.resources.engine
        problems = sum(self.inputs.benchmark_problems[benchmark.name] for benchmark in evaluate.benchmarks)
        drawn = to_search(guided, steps, float(problems * len(steps)), whole, self.assume)
        yield on_engine(drawn, self.inputs.student, engine, guided.max_step_tokens, self.inputs.gpu, self.assume)
        if guided.judge is None:
            half = Side(self.whole.prompt, self.whole.answers() / 2)
            yield valued_cost(self.inputs, self.whole, "evaluate: guided, steps", steps, [(half, drawn.samples)])
        elif guided.judge.model is None:
            asked = to_weigh(guided.judge, steps, drawn, self.assume)
            engine = guided.judge.engine or engine
            yield on_engine(asked, self.inputs.student, engine, guided.judge.max_tokens, self.inputs.gpu, self.assume)


def benchmark_size(benchmark: BenchmarkSettings, source: object) -> int:
    """Problems of a benchmark that are evaluated; a file of the user's own is counted."""
    from redi_ray.eval.benchmarks import load_benchmark

    if benchmark.path is not None:
        return load_benchmark(benchmark).num_rows
    if benchmark.name == WORLD:
        assert isinstance(source, BuiltInSource), source
        size = source.num_test
    else:
        size = HUB[benchmark.name].problems
    return min(size, benchmark.max_problems or size)
