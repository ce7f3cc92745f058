"""Running the steps of a graph. Every step reuses what is there, so any of them can be asked for again at any time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import RLock

from redi_ray.cluster.capacity import Demand
from redi_ray.cluster.devices import with_devices
from redi_ray.cluster.runtime import log
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import dump_config
from redi_ray.config.names import BASE, DEV
from redi_ray.data.sample import engine_pool
from redi_ray.pipeline.cards import update_cards
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.room import SMALL, has_room
from redi_ray.pipeline.schedule import Limits, walk
from redi_ray.pipeline.standard import SCORES, graph_of, models_named, scored_models, step_named
from redi_ray.pipeline.states import run_of, states
from redi_ray.stages import data, training
from redi_ray.stages.run import Run
from redi_ray.stages.training import Training
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest


class Pipeline:
    """One run's graph, each step computed once and remembered. Its methods may be called from several threads; they take
    turns."""

    def __init__(self, config: ExperimentConfig, *, in_force: bool = True) -> None:
        """in_force: see `Run`. Raises GraphError if the config's steps do not fit together."""
        config = with_devices(config)
        self.run = Run.of(config, in_force=in_force)
        self.config = config
        self.graph: Graph = graph_of(config)
        resources = config.resources
        self._limits = Limits(resources.concurrent_steps, resources.concurrent_evaluations)
        self._done: dict[str, Manifest] = {}
        self._turn = RLock()
        if in_force:
            storage.write_bytes(storage.join(self.run.uri, "config.yaml"), dump_config(config).encode())

    def make(self, names: Iterable[str]) -> None:
        """Make these steps with all that they come from, or find them done.

        Problems come first, and those for development with them, whether these steps need them or not: a lack of them must
        not show after traces have been paid for. Raises what the first step to fail has raised, with a note that names it.
        """
        wanted = list(names)
        with self._turn:
            steps = self.graph.needed_for([*wanted, *self.graph.giving("dev")] if wanted else [])
            steps.sort(key=lambda step: step.gives not in ("problems", "dev"))
            checked = {step.name for step in steps} >= {"verified", "curated"} and "curated" not in self._done

            def waits_for(step: Step) -> set[str]:
                """All else waits for the development problems, even where there is room beside them. Traces that are to be
                trained on are compared with the model before a judge is asked about them."""
                first = [] if step.gives in ("problems", "dev") else self.graph.giving("dev")
                return {*step.inputs.values(), *first, *([BASE] if checked and step.name == "verified" else [])}

            def make(step: Step) -> Manifest:
                inputs = {role: self._done[of] for role, of in step.inputs.items()}
                engine_pool.make_room([SMALL, *self._room(step)])
                if checked and step.name == "verified":
                    data.check_traces(self.run, inputs["of"], self._done[BASE])
                made = KINDS[step.kind].make(run_of(self.run, step), step, inputs)
                self._tell_cards(step, made)
                return made

            self._start_engine(steps)
            walk(steps, self._done, make, self._limits, waits_for=waits_for, fits=self._fits)

    def _tell_cards(self, step: Step, made: Manifest) -> None:
        """Write the card of a model that is there, and again once it has scores."""
        if self.run.in_force and step.gives in ("model", "scores"):
            of = step.name if step.gives == "model" else step.inputs["model"]
            update_cards(self.run, self.graph, [of], {**self._done, step.name: made})

    def _room(self, step: Step) -> Sequence[Demand]:
        return KINDS[step.kind].room(run_of(self.run, step), step)

    def _fits(self, running: Sequence[Step], step: Step) -> bool:
        rooms = [SMALL, *(demand for one in (*running, step) for demand in self._room(one))]
        return has_room([*rooms, *[SMALL] * len(running)], self.config)

    def _start_engine(self, steps: Sequence[Step]) -> None:
        """Begin to start the first engine that one of these steps will want, while those before it run; on CPU, where that
        holds no GPU, and where every step has room beside it."""
        if self.config.resources.engine.device != "cpu":
            return
        left = {state.step.name for state in states(self.graph, self.run) if state.standing != "finished"}
        rooms = [self._room(step) for step in steps if step.name in left - self._done.keys()]
        wanted = next((demand for room in rooms for demand in room if demand.engine is not None), None)
        if wanted is None or wanted.engine is None or wanted.engine.device != "cpu":
            return
        if all(has_room([SMALL, wanted, *(d for d in room if d.engine is None)], self.config) for room in rooms):
            engine_pool.start_one(wanted.engine)

    def output(self, name: str) -> Manifest:
        """A step's output: made with all that it comes from, or found done."""
        self.make([name])
        return self._done[name]

    def problems(self) -> Manifest:
        return self.output("problems")

    def dev(self) -> Manifest:
        """The development problems, whether the config's own trainings are measured on them or not."""
        if DEV in self.graph.steps:
            return self.output(DEV)
        return KINDS["dev"].make(self.run, Step(DEV, "dev"), {"problems": self.problems()})

    def base(self) -> Manifest:
        return self.output(BASE)

    def traces(self) -> Manifest:
        return self.output("traces")

    def verified(self) -> Manifest:
        return self.output("verified")

    def curated(self) -> Manifest:
        return self.output("curated")

    def checkpoint(self, name: str) -> Manifest:
        """The model of this name."""
        return self.output(name)

    def prepare(self, name: str) -> Training:
        """What trains a model, with its data made and the models before it trained."""
        step = self.graph[name]
        self.make(step.inputs.values())
        inputs = {role: self._done[of] for role, of in step.inputs.items()}
        return training.prepare(run_of(self.run, step), step.name, step.settings, inputs)

    @property
    def models(self) -> list[str]:
        """Every model of the run, in the order of training."""
        return self.graph.giving("model")

    def train(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Train the named models, or all."""
        names = models_named(self.config, self.graph, names) if names else self.models
        self.make(names)
        return {name: self._done[name] for name in names}

    def evaluate(self, names: list[str] | None = None) -> dict[str, Manifest]:
        """Evaluate the named models, or all that the config wants scored."""
        names = scored_models(self.config, self.graph, names or [])
        self.make(SCORES + name for name in names)
        return {name: self._done[SCORES + name] for name in names}

    def scores(self) -> dict[str, dict[str, float]]:
        """Model -> benchmark -> pass@1, of those that were evaluated here."""
        found = {name: made for name, made in self._done.items() if self.graph[name].gives == "scores"}
        return {
            self.graph[name].inputs["model"]: {on: score["pass@1"] for on, score in made.facts["scores"].items()}
            for name, made in found.items()
        }

    def run_all(self) -> None:
        """From the problems to every model's scores."""
        self.make(self.graph.steps)
        if not self.config.evaluate.any_problems:
            log.info("evaluate.benchmarks names none, so nothing is evaluated")

    def until(self, name: str) -> Manifest:
        """Make one step and what it needs; a repeated step's bare name means its last round."""
        return self.output(step_named(self.graph, name))
