"""Every stage's tokens, operations and GPU-hours."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from redi_ray.config.data import ArithmeticSource, EndpointTraces, VllmTraces
from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.evaluation import BenchmarkSettings
from redi_ray.config.experiment import ArithmeticModel
from redi_ray.config.objectives import Objective
from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.config.training import TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.plan.assumptions import Assumptions
from redi_ray.plan.costs import Inputs, Plan, StageCost
from redi_ray.plan.flops import Flops, scoring, training
from redi_ray.plan.footprint import stage_memory, storage, trainer_of, trainings
from redi_ray.plan.serving import serving
from redi_ray.plan.shapes import ModelShape
from redi_ray.plan.workload import Workload, groups_trained, sides_of

BENCHMARK_PROBLEMS = {
    "math500": 500, "aime24": 30, "amc23": 40, "amc23_83": 83, "minerva": 272, "olympiadbench": 674, "gsm8k": 1319,
}  # fmt: skip
"""Problems of the benchmarks that need no path."""


def estimate(inputs: Inputs, assume: Assumptions) -> Plan:
    """The plan of a config."""
    return _Estimate(inputs, assume).plan()


class _Estimate:
    """One pass over the stages, which notes what each of them assumes."""

    def __init__(self, inputs: Inputs, assume: Assumptions) -> None:
        self.inputs, self.config, self.assume = inputs, inputs.config, assume
        self.work = Workload(inputs.config, inputs.sample, assume)

    def plan(self) -> Plan:
        builders: list[Callable[[], StageCost | None]] = [self._base, self._generate, self._judge, self._sft]
        builders += [lambda: self._references(False), lambda: self._references(True)]
        builders += [lambda name=name: self._arm(name) for name in self.config.redi.arms]  # type: ignore[misc]
        builders.append(self._evaluate)
        stages = []
        for build in builders:
            self.assume.used.clear()
            if (stage := build()) is not None:
                stages.append(stage)
        memory = [stage_memory(self.inputs, self.work, stage) for stage in trainings(self.config)]
        self.assume.used.clear()
        stored = storage(self.inputs, self.work, stages)
        return Plan(stages, memory, stored, self._used())

    # ----------------------------------------------------------------------------------------------------- the sampling

    def _generate(self) -> StageCost | None:
        generate = self.config.generate
        if isinstance(generate, EndpointTraces):
            traces, work = self.work.traces(), self.work
            return self._asked("generate", traces, work.prompt, work.trace_tokens, generate.endpoint)
        if not isinstance(generate, VllmTraces):
            return None
        assert self.inputs.teacher is not None
        engine, traces = generate.engine or self.config.resources.engine, self.work.traces()
        return self._sampled(
            "generate",
            self.inputs.teacher,
            engine,
            traces,
            self.work.trace_tokens,
            generate.max_tokens,
            self.work.prompt,
        )

    def _judge(self) -> StageCost | None:
        judge = self.config.verify.judge
        if judge is None:
            return None
        asked = self.work.traces() * (1.0 if judge.ask == "all" else 1 - self.assume["correct_share"])
        written = min(self.assume["judge_tokens"], judge.max_tokens)
        seen = (len(judge.prompt) + judge.tail_chars) / self.assume["bytes_per_token"] + self.work.prompt
        if judge.endpoint is not None:
            return self._asked("judge", asked, seen, written, judge.endpoint)
        assert self.inputs.judge is not None
        engine = judge.engine or self.config.resources.engine
        return self._sampled("judge", self.inputs.judge, engine, asked, written, judge.max_tokens, seen, shared=False)

    def _evaluate(self) -> StageCost | None:
        evaluate, models = self.config.evaluate, 2 + len(self.config.redi.arms)
        if not evaluate.benchmarks:
            return None
        samples = sum(
            self.inputs.benchmark_problems[benchmark.name] * (benchmark.num_samples or evaluate.num_samples)
            for benchmark in evaluate.benchmarks
        )
        mean = float(self.work.answers().mean())
        return self._sampled(
            f"evaluate ({models} models)",
            self.inputs.student,
            self.config.resources.engine,
            float(samples * models),
            mean,
            evaluate.max_tokens,
            self.work.prompt,
        )

    def _asked(
        self, name: str, requests: float, prompt: float, written: float, endpoint: EndpointSettings
    ) -> StageCost:
        price = endpoint.cost(round(requests * prompt), round(requests * written)) if endpoint.has_prices else None
        note = f"{requests * prompt / 1e6:,.1f}M prompt tokens at an endpoint"
        return StageCost(name, requests, requests * written, None, price=price, note=note, assumptions=self._used())

    def _sampled(
        self,
        name: str,
        shape: ModelShape,
        engine: EngineSettings,
        samples: float,
        written: float,
        most: int,
        prompt: float,
        shared: bool = True,
    ) -> StageCost:
        tokens = samples * written
        if engine.device == "cpu":
            return StageCost(name, samples, tokens, None, note="on CPU", assumptions=self._used())
        gpus, gpu = len(engine.bundles), self.inputs.gpu
        replica = partial(
            serving,
            shape,
            gpu,
            context=prompt + written / 2,
            longest=min(prompt + most, engine.longest or math.inf),
            memory_share=engine.gpu_memory_utilization,
            efficiency=self.assume["decode_efficiency"],
            max_sequences=engine.limits(gpu.limits).sequences,
        )
        found, note = replica(gpus=gpus), ""
        if not found.tokens_per_second:
            note = f"DOES NOT FIT on {gpus} {gpu.name} a replica; counted with {found.gpus_needed} (tensor_parallel_size): "
            gpus = found.gpus_needed
            found = replica(gpus=gpus)
        replicas = engine.pool[1]
        seconds = tokens / found.tokens_per_second * gpus
        if not shared:
            work = 2.0 * shape.parameters * samples * prompt
            seconds += work / (gpu.bf16_tflops * 1e12 * self.assume["utilization"])
        each = found.tokens_per_second / gpus
        note += f"{each:,.0f} tokens/s a GPU, {found.sequences} sequences at a time"
        return StageCost(name, samples, tokens, seconds / 3600, replicas * gpus, note=note, assumptions=self._used())

    # ----------------------------------------------------------------------------------------------------- the training

    def _base(self) -> StageCost | None:
        init = self.config.model.init
        if not isinstance(init, ArithmeticModel):
            return None
        side, groups = self.work.chosen, groups_trained(init.corpus_size, init.train)
        flops = training(
            self.inputs.student, side.lengths, side.scored, checkpointing=init.train.gradient_checkpointing
        )
        return self._trained("base", groups, groups * side.tokens, flops.times(groups), self.config.resources.trainer)

    def _sft(self) -> StageCost:
        return self._training("sft", self.config.sft.objective, self.config.sft.train, False)

    def _arm(self, name: str) -> StageCost:
        return self._training(name, self.config.redi.arms[name].objective, self.config.redi.settings(name), True)

    def _training(self, name: str, objective: Objective, settings: TrainSettings, paired: bool) -> StageCost:
        available = self.work.pairs if paired else self.work.positives
        groups = groups_trained(available, settings)
        sides = sides_of(self.work, objective.name, paired, settings)
        trainer, spec = trainer_of(self.config, paired), OBJECTIVES[objective.name]
        lora = self.config.model.overrides.lora is not None
        flops, checkpointing = Flops(0, 0), settings.gradient_checkpointing
        step_tokens = sum(side.tokens for side in sides) * settings.batch_size
        passes = math.ceil(step_tokens / (settings.tokens_per_pack * trainer.pool[1]))
        for side in sides:
            once = scoring(self.inputs.student, side.lengths, side.scored)
            flops += training(
                self.inputs.student, side.lengths, side.scored, checkpointing=checkpointing, adapters=lora
            )
            if not spec.linear(objective) and passes > 1:
                flops += Flops(0, once.hardware)  # scores are needed before coefficients
            if spec.needs_mismatched(objective):
                flops += Flops(0, once.hardware)
        notes = [] if groups else ["there are no pairs" if paired else "there are no positives"]
        if not spec.linear(objective) and passes > 1:
            notes.append("scores first, then trains: one more forward pass")
        note = "; ".join([f"{settings.total_steps(available):,} steps", *notes])
        tokens = groups * sum(side.tokens for side in sides)
        return self._trained(name, groups * len(sides), tokens, flops.times(groups), trainer, note)

    def _references(self, mismatched: bool) -> StageCost | None:
        """Log-probs of the reference, once for all arms that need them."""
        users = [
            name
            for name, arm in self.config.redi.arms.items()
            for spec in (OBJECTIVES[arm.objective.name],)
            if (spec.needs_mismatched(arm.objective) if mismatched else spec.needs_reference)
        ]
        if not users:
            return None
        sides = [self.work.chosen, self.work.rejected]
        flops = Flops(0, 0)
        for side in sides:
            flops += scoring(self.inputs.student, side.lengths, side.scored)
        groups, name = self.work.pairs, "references" + ("/mismatched" if mismatched else "")
        tokens = groups * sum(side.tokens for side in sides)
        trainer = self.config.resources.trainer
        return self._trained(name, 2 * groups, tokens, flops.times(groups), trainer, f"for {', '.join(users)}")

    def _trained(
        self, name: str, sequences: float, tokens: float, flops: Flops, trainer: TrainerSettings, note: str = ""
    ) -> StageCost:
        fewest, most = trainer.pool
        if fewest < most:
            note = "; ".join(
                [*filter(None, [note]), f"{fewest} to {most} ranks: hours with {most}, memory with {fewest}"]
            )
        if not trainer.use_gpu:
            note = "; ".join(["on CPU", *filter(None, [note])])
            return StageCost(name, sequences, tokens, None, flops=flops.hardware, note=note, assumptions=self._used())
        peak, utilization = self.inputs.gpu.bf16_tflops * 1e12, self.assume["utilization"]
        seconds = flops.hardware / (peak * utilization)
        mfu = flops.model / (peak * seconds) if seconds else None
        return StageCost(name, sequences, tokens, seconds / 3600, most, flops.hardware, mfu, None, note, self._used())

    def _used(self) -> list[str]:
        return sorted(self.assume.used)


def benchmark_size(benchmark: BenchmarkSettings, source: object) -> int:
    """Problems of a benchmark that are evaluated; a file of the user's own is counted."""
    from redi_ray.eval.benchmarks import load_benchmark

    if benchmark.path is not None:
        return load_benchmark(benchmark).num_rows
    if benchmark.name == "arithmetic":
        assert isinstance(source, ArithmeticSource), source
        size = source.num_test
    else:
        size = BENCHMARK_PROBLEMS[benchmark.name]
    return min(size, benchmark.max_problems or size)
