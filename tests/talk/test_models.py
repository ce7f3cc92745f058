"""Which model is meant: a mistake is told with what there is, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from redi_ray.store.manifests import Stage
from redi_ray.talk.models import TalkError, find_models, find_speakers


def test_models_are_found_by_name_and_mistakes_are_told(talk_run: str, tmp_path: Path):
    (model,) = find_models(talk_run, ["base"])
    assert (model.name, model.is_reward, model.export) == ("base", False, model.local())
    assert model.recorded["text"].endswith("<think>\n")
    with pytest.raises(TalkError, match=r"sft is not finished .*--until sft.*finished models: base"):
        find_models(talk_run, ["sft"])
    with pytest.raises(TalkError, match=r"no model named bas; did you mean base\?; finished models: base"):
        find_models(talk_run, ["bas"])
    with pytest.raises(TalkError, match="no run is there"):
        find_models(str(tmp_path), ["base"])


def test_a_bare_name_is_the_last_round_and_a_reward_model_does_not_talk(tmp_path: Path):
    (tmp_path / "config.yaml").write_text(
        "{name: x, steps: {own: {do: train, from: base, on: curated, objective: {name: redi}},\n"
        " rm: {do: train, from: base, on: curated, objective: {name: bradley_terry}}},\n"
        " repeat: {steps: [own], times: 2, carry: {base: own}}}"
    )
    for name in ("own@1", "own@2", "rm"):
        stage = Stage(str(tmp_path), f"checkpoints/{name}", {"name": name}, {})
        (Path(stage.uri) / "export").mkdir(parents=True)
        (Path(stage.uri) / "export" / "config.json").write_text("{}")
        stage.publish(facts={"export": f"{stage.uri}/export"})
    assert find_speakers(str(tmp_path), ["own"])[0].name == "own@2"
    with pytest.raises(TalkError, match="a reward model writes no text"):
        find_speakers(str(tmp_path), ["rm"])
