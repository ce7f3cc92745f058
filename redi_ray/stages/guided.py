"""What a run tells a search that judges and reward models guide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.guided import GuidedSettings
from redi_ray.config.locators import LocateSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.guided.search import JudgeSteps
from redi_ray.data.locate.locate import locate_samples
from redi_ray.data.locate.locator import Work
from redi_ray.data.sample.samples import SampleStats
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.eval.guided import Guide
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.stages.bars import WorkBar
from redi_ray.stages.rewards import COLUMN, numerics_of
from redi_ray.stages.run import Run
from redi_ray.stages.scoring import outside_of, reward_writer
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest

GUIDE = "guided"
"""What an evaluation calls the reward model, or the judge, that guides its search."""
JUDGE = "guided judge"


def role_of(settings: GuidedSettings) -> str:
    """The input that its model is."""
    return GUIDE if settings.judge is None else JUDGE


def decided_by(run: Run, settings: EvaluateSettings) -> dict[str, Any]:
    """What decides a search beside the evaluation's settings, for its key; nothing where there is none."""
    guided = settings.guided
    if guided is None:
        return {}
    if guided.reward is not None:
        return {"guide": outside_of(guided.reward), **numerics_of(run.config)}
    own = guided.judge.model if guided.judge is not None else None
    return {"guide": None if own is None else content_of_model(own), "judge_engine": _engine(run, guided)}


def guide_of(
    run: Run, model: str, engine: EngineSettings, inputs: Mapping[str, Manifest], bar: WorkBar
) -> Guide | None:
    """What a search needs, where the evaluation has one. model: that answers, on such an engine. inputs: of the step."""
    settings = run.config.evaluate.guided
    if settings is None:
        return None
    made = inputs.get(role_of(settings))
    asked = made.facts["export"] if made is not None else None
    if settings.reward is not None:
        judge = reward_writer(run, settings.reward, asked, "evaluate.guided")
    else:
        judge = _judge_writer(run, settings, asked)

    def progress(added: SampleStats) -> None:
        bar.set_total(int(bar.bar.total or 0) + added.asked)
        bar(added.traces, 0 if added.resumed else added.tokens)

    prompt = run.config.model.prompt
    return Guide(lambda sampling, rows: vllm_sampler(model, engine, sampling, prompt, rows), judge, progress)


def _engine(run: Run, settings: GuidedSettings) -> EngineSettings:
    """The judge's."""
    own = settings.judge.engine if settings.judge is not None else None
    return own or run.config.resources.engine


def _judge_writer(run: Run, settings: GuidedSettings, model: str | None) -> JudgeSteps:
    """A generative judge of the last step of each sample."""
    judge = settings.judge
    assert judge is not None

    def write(samples: str, out: str) -> str:
        work = Work(
            settings=LocateSettings(locator=judge, ask="all", form=settings.form),
            samples=storage.resolve(samples),
            uri=storage.resolve(out),
            prompt=run.config.model.prompt,
            verify=run.config.verify.first_pass(),
            engine=run.config.resources.engine,
            model=model,
            step="evaluate.guided",
            last_step=True,
        )
        locate_samples(work)
        return storage.join(out, COLUMN)

    return write
