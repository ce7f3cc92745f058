"""The actor that scores a search's trials with one engine, one after the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import ray.data

from redi_ray.cluster.notices import listen
from redi_ray.cluster.runtime import quiet_libraries
from redi_ray.config.resources import EngineSettings
from redi_ray.config.search import DevEvaluation
from redi_ray.data.sample.engine import Engine, Swap
from redi_ray.data.sample.engines import actor_options
from redi_ray.data.sample.generate import read_problems
from redi_ray.data.sample.samples import Sampler
from redi_ray.eval.evaluate import sampling_of
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.search.trial import Score, Scorer, dev_pass_at_1, some_problems
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids


class Evaluator:
    """Holds the engine. Calls come one at a time, each with all that it needs, so a restarted actor can repeat one."""

    def __init__(self, settings: EngineSettings) -> None:
        quiet_libraries()
        self.settings, self.engine = settings, Engine()
        self.swap: Swap | None = None

    def score(self, run: Run, checkpoint: Manifest, dev: Manifest, settings: DevEvaluation) -> Score:
        """See `redi_ray.search.trial.dev_pass_at_1`."""
        self.swap = None
        score = dev_pass_at_1(run, checkpoint, dev, settings, self._sampler(run, checkpoint, dev, settings))
        return {**score, "engine": asdict(self.swap) if self.swap else None}

    def _sampler(self, run: Run, checkpoint: Manifest, dev: Manifest, settings: DevEvaluation) -> Sampler:
        prompt, evaluate, model = run.config.model.prompt, run.config.evaluate, checkpoint.facts["export"]

        def sample(requests: ray.data.Dataset) -> ray.data.Dataset:
            tokenizer = load_tokenizer(model, self.settings.trusts_code)
            some = some_problems(read_problems(dev.files("dev")), settings.parity_prompts)
            asked = [prompt_ids(to_messages(text, prompt), tokenizer, prompt) for text in some["problem"].to_pylist()]
            self.swap = self.engine.use(model, self.settings, asked).result()
            rows = pa.concat_tables(requests.iter_batches(batch_size=None, batch_format="pyarrow"))
            return ray.data.from_arrow(self.engine.submit(rows, sampling_of(evaluate), prompt).result())

        return sample


def start_evaluator(engine: EngineSettings, checks_with: float = 0.0) -> Any:
    """An actor for `score`, with the engine's resources; it is gone when the last handle is.

    checks_with: bytes of memory that the check of its weights takes, see `redi_ray.search.capacity.float32_copy`.
    """
    listen()
    options = actor_options(engine) | ({"memory": int(checks_with)} if checks_with else {})
    return ray.remote(max_restarts=2, max_task_retries=2, **options)(Evaluator).remote(engine)


def scorer_of(evaluator: Any) -> Scorer:
    """The actor's method as a plain function."""

    def score(run: Run, checkpoint: Manifest, dev: Manifest, settings: DevEvaluation) -> Score:
        try:
            return ray.get(evaluator.score.remote(run, checkpoint, dev, settings))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    return score
