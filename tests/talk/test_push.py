"""A model comes to the hub whole, private unless told otherwise, and what the hub says against it is told.

The hub is a server on this machine. It speaks the hub's API over HTTP with the LFS upload, not with Xet's, whose servers are the
hub's own: HF_HUB_DISABLE_XET chooses the former.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import HubServer
from processes import run as command

from redi_ray.store import storage
from redi_ray.talk.models import TalkError, find_models
from redi_ray.talk.push import files_of, require_name

SENT = [
    "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
]  # fmt: skip


def push(run: str, hub: HubServer, *more: str, expect: int = 0, **environment: str) -> str:
    told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return command("push", run, "me/tiny", "--model", "base", *more, environment=told | environment, expect=expect)


def test_a_model_is_pushed_whole_and_again(talk_run: str):
    """Once as a new, private repository, once more to the same, which is to be public now."""
    with HubServer() as hub:
        assert "pushed: " in push(talk_run, hub)
        repository = hub.repositories["me/tiny"]
        assert repository.private
        assert sorted(repository.files) == SENT  # and not the run's own manifest
        export = Path(find_models(talk_run, ["base"])[0].export)
        assert all(repository.files[name] == (export / name).read_bytes() for name in SENT)
        assert repository.messages == ["base of run talk"]
        push(talk_run, hub, "--public")
        assert not repository.private


REFUSED = """
import os, sys
from redi_ray.errors import UserError
from redi_ray.talk.models import find_models
from redi_ray.talk.push import push
(model,) = find_models(sys.argv[1], ["base"])
for token in ("", "hf_other", os.environ["HF_TOKEN"]):
    os.environ["HF_TOKEN"] = token
    try:
        push(model, "me/tiny")
    except UserError as error:
        print(error.exit_code, error)
"""


def test_a_dry_run_asks_nobody_and_refusals_say_why(talk_run: str):
    with HubServer() as hub:
        told = push(talk_run, hub, "--dry-run", HF_TOKEN="")
        assert "model.safetensors" in told
        assert "6 files of base for me/tiny, private if it is new" in told
        assert hub.seen == []
        hub.status = 503
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0", "HF_HOME": "/nowhere"}
        none, other, down = command("python", "-c", REFUSED, talk_run, environment=variables).splitlines()[-3:]
        assert none.startswith("2 no token of the hub is here: set HF_TOKEN")
        assert other.startswith("2 me/tiny: the hub refuses (401): the token is not valid")
        assert down == "1 me/tiny: the hub answers 503; later the same command may go on"


def test_what_is_no_repository_or_has_no_weights_is_told_first(talk_run: str, tmp_path: Path):
    for name in ("", "a/b/c", "/a", "a--b", "a..b", "x.git", "ünï/x"):
        with pytest.raises(TalkError, match="write a repository as NAME or OWNER/NAME"):
            require_name(name)
    require_name("me/my-model_1.5B")
    storage.download(talk_run, tmp_path / "copy")
    copy = find_models(str(tmp_path / "copy"), ["base"])[0]
    assert copy.export.startswith(str(tmp_path))  # a run's folder may be moved
    (Path(copy.export) / "model.safetensors").unlink()
    with pytest.raises(TalkError, match="no weights are there"):
        files_of(copy)
