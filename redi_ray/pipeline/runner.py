"""Running the steps of a graph. Every step reuses what is there, so any of them can be asked for again at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from redi_ray.cluster.capacity import with_devices
from redi_ray.cluster.runtime import log
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import dump_config
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import import_for_threads
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import BASE, SCORES, graph_of
from redi_ray.stages import data, training
from redi_ray.stages.run import Run
from redi_ray.stages.training import Training
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest


class Pipeline:
    """One run's graph, each step computed once and remembered."""

    def __init__(self, config: ExperimentConfig, *, in_force: bool = True) -> None:
        """in_force: see `Run`. Raises GraphError if the config's steps do not fit together."""
        config = with_devices(config)
        self.run = Run.of(config, in_force=in_force)
        self.config = config
        self.graph: Graph = graph_of(config)
        self._done: dict[str, Manifest] = {}
        if in_force:
            storage.write_bytes(storage.join(self.run.uri, "config.yaml"), dump_config(config).encode())

    def output(self, name: str) -> Manifest:
        """A step's output: made with all that it comes from, or found done."""
        for step in self.graph.needed_for([name]):
            if step.name not in self._done:
                inputs = {role: self._done[of] for role, of in step.inputs.items()}
                self._done[step.name] = KINDS[step.kind].make(run_of(self.run, step), step, inputs)
        return self._done[name]

    def problems(self) -> Manifest:
        """The problems. Where models are measured while they train, development problems are asked for at once: a lack of
        them must not show after the traces have been paid for."""
        problems = self.output("problems")
        if "dev" in self.graph.steps:
            self.output("dev")
        return problems

    def dev(self) -> Manifest:
        """The development problems, whether the config's own trainings are measured on them or not."""
        if "dev" in self.graph.steps:
            return self.output("dev")
        return KINDS["dev"].make(self.run, Step("dev", "dev"), {"problems": self.problems()})

    def base(self) -> Manifest:
        self.problems()
        return self.output(BASE)

    def traces(self) -> Manifest:
        self.problems()
        return self.output("traces")

    def verified(self) -> Manifest:
        self.problems()
        return self.output("verified")

    def curated(self) -> Manifest:
        if "curated" not in self._done:  # before a judge is asked about them
            data.check_traces(self.run, self.traces(), self.base())
        return self.output("curated")

    def checkpoint(self, name: str) -> Manifest:
        """The model of this name."""
        if name != BASE:
            self.curated()
        return self.output(name)

    def prepare(self, name: str) -> Training:
        """What trains a model, with its data made and the models before it trained."""
        self.curated()
        step = self.graph[name]
        inputs = {role: self.output(of) for role, of in step.inputs.items()}
        return training.prepare(run_of(self.run, step), step.name, step.settings, inputs)

    def evaluation(self, name: str) -> Manifest:
        return self.output(SCORES + name)

    @property
    def models(self) -> list[str]:
        """Every model of the run, in the order of training."""
        return [step.name for step in self.graph if step.gives == "model"]

    def train(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Train the named models, or all."""
        return {name: self.checkpoint(name) for name in self._known(names)}

    def evaluate(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Evaluate the named models, or all that the config wants scored."""
        scored = [step.inputs["model"] for step in self.graph if step.gives == "scores"]
        if not scored:
            raise UserError("evaluate.benchmarks is empty: name at least one benchmark")
        names = self._known(names) if names else scored
        if missing := [name for name in names if name not in scored]:
            raise UserError(f"evaluate.models leaves out {', '.join(missing)}; it names {', '.join(scored)}")
        for name in names:
            self.checkpoint(name)  # here, since the threads below share what is remembered of the steps
        import_for_threads()
        return dict(zip(names, self._side_by_side(self.evaluation, names), strict=True))

    def _side_by_side(self, stage: Callable[[str], Manifest], names: list[str]) -> list[Manifest]:
        """The stage for each name, as many at a time as the config allows. When one fails or SIGTERM comes, those that have
        not begun do not, and nothing waits for the others: closing Ray ends them."""
        pool = ThreadPoolExecutor(self.config.resources.concurrent_evaluations)
        try:
            return [future.result() for future in [pool.submit(stage, name) for name in names]]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def run_all(self, until: str | None = None) -> None:
        """From the problems to every model's scores, or to one step and what it needs."""
        if until is not None:
            self.until(until)
            return
        self.train()
        self.make(step.name for step in self.graph if step.gives != "scores")
        if self.config.evaluate.benchmarks:
            self.evaluate()
        else:
            log.info("evaluate.benchmarks names none, so nothing is evaluated")

    def until(self, name: str) -> Manifest:
        """Make one step and what it needs."""
        needed = [step.name for step in self.graph.needed_for([name])]
        self.problems()
        if "curated" in needed:
            self.curated()
        return self.output(name)

    def make(self, names: Iterable[str]) -> None:
        """Make these steps, in the graph's order."""
        for name in names:
            self.output(name)

    def _known(self, names: list[str] | None) -> list[str]:
        unknown = [name for name in names or [] if name not in self.models]
        if unknown:
            raise UserError(f"no arm named {', '.join(unknown)}; this config has {', '.join(self.models)}")
        return names or self.models


def run_of(run: Run, step: Step) -> Run:
    """The run as a step sees it."""
    return run.within(step.name if step.own else "", **step.sections) if step.own or step.sections else run
