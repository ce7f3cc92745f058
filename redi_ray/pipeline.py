"""The stages in order. Every step reuses what is there, so any of these can be called again at any time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redi_ray.cluster.capacity import with_devices
from redi_ray.cluster.runtime import log
from redi_ray.config.experiment import ExperimentConfig, ScratchModel
from redi_ray.config.load import dump_config
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import import_for_threads
from redi_ray.stages import data, evaluation, model, training, verification
from redi_ray.stages.dev_problems import dev_problems
from redi_ray.stages.run import Run
from redi_ray.stages.training import Training
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest


class Pipeline:
    """One run's stages, each computed once and remembered."""

    def __init__(self, config: ExperimentConfig, *, in_force: bool = True) -> None:
        """in_force: see `Run`."""
        config = with_devices(config)
        self.run = Run.of(config, in_force=in_force)
        self.config = config
        self._done: dict[str, Manifest] = {}
        if in_force:
            storage.write_bytes(storage.join(self.run.uri, "config.yaml"), dump_config(config).encode())

    def problems(self) -> Manifest:
        """The problems. Where models are measured while they train, development problems are asked for at once: a lack of
        them must not show after the traces have been paid for."""
        problems = self._once("problems", lambda: data.problems(self.run))
        if self.config.probes:
            self._once("dev", lambda: dev_problems(self.run, problems))
        return problems

    def dev(self) -> Manifest:
        """The development problems."""
        problems = self.problems()
        return self._once("dev", lambda: dev_problems(self.run, problems))

    def base(self) -> Manifest:
        """The model before stage 1. Random weights learn their tokenizer from the traces, so those come first."""
        scratch = isinstance(self.config.model.init, ScratchModel)
        return self._once("base", lambda: model.base(self.run, self.problems(), self.traces() if scratch else None))

    def traces(self) -> Manifest:
        teacher = self.base() if self.config.teacher_is_base else None
        return self._once("traces", lambda: data.traces(self.run, self.problems(), teacher))

    def verified(self) -> Manifest:
        return self._once("verified", lambda: verification.verified(self.run, self.traces()))

    def curated(self) -> Manifest:
        return self._once("curated", self._curated)

    def _curated(self) -> Manifest:
        data.check_traces(self.run, self.traces(), self.base())  # before a judge is asked about them
        return data.curated(self.run, self.problems(), self.verified(), self.base())

    def checkpoint(self, name: str) -> Manifest:
        """The trained model of `base`, `sft` or an arm."""
        if name == "base":
            return self.base()
        return self._once(name, lambda: training.train(self.run, self.prepare(name)))

    def prepare(self, name: str) -> Training:
        """What trains `sft` or an arm, with its data made and the models before it trained."""
        curated, base = self.curated(), self.base()
        dev = self.dev() if self.config.probes else None
        if name == "sft":
            return training.prepare_sft(self.run, curated, base, dev)
        return training.prepare_arm(self.run, name, curated, base, self.checkpoint("sft"), dev)

    def evaluation(self, name: str) -> Manifest:
        checkpoint = self.checkpoint(name)
        return self._once(f"eval/{name}", lambda: evaluation.evaluate(self.run, name, checkpoint, self.problems()))

    @property
    def arms(self) -> list[str]:
        """Every model of the run, in the order of training."""
        return ["base", "sft", *self.config.redi.arms]

    def train(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Train the named models, or all."""
        found = {name: self.checkpoint(name) for name in self._known(names)}
        self.run.write_index("checkpoints", found)
        return found

    def evaluate(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Evaluate the named models, or all."""
        if not self.config.evaluate.benchmarks:
            raise UserError("evaluate.benchmarks is empty: name at least one benchmark")
        names = self._known(names)
        for name in names:
            self.checkpoint(name)  # here, since the threads below share what is remembered of the stages
        import_for_threads()
        found = dict(zip(names, self._side_by_side(self.evaluation, names), strict=True))
        self.run.write_index("eval", found)
        return found

    def _side_by_side(self, stage: Callable[[str], Manifest], names: list[str]) -> list[Manifest]:
        """The stage for each name, as many at a time as the config allows. When one fails or SIGTERM comes, those that have
        not begun do not, and nothing waits for the others: closing Ray ends them."""
        pool = ThreadPoolExecutor(self.config.resources.concurrent_evaluations)
        try:
            return [future.result() for future in [pool.submit(stage, name) for name in names]]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def run_all(self) -> None:
        """From the problems to every model's scores."""
        self.train()
        if self.config.evaluate.benchmarks:
            self.evaluate()
        else:
            log.info("evaluate.benchmarks names none, so nothing is evaluated")

    def _known(self, names: list[str] | None) -> list[str]:
        unknown = [name for name in names or [] if name not in self.arms]
        if unknown:
            raise UserError(f"no arm named {', '.join(unknown)}; this config has {', '.join(self.arms)}")
        return names or self.arms

    def _once(self, name: str, compute: Callable[[], Manifest]) -> Manifest:
        if name not in self._done:
            self._done[name] = compute()
        return self._done[name]
