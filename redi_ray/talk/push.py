"""A model of a run to the hub: its folder as it is, but for what is only the run's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redi_ray.errors import EXIT_FAILED, UserError
from redi_ray.modeling.tokenizer import is_folder
from redi_ray.store import storage
from redi_ray.talk.models import RunModel, TalkError

OWN = ("manifest.json",)
"""Files that a run reads and nobody else."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


class HubUnavailable(UserError):
    """The hub did not answer: the same command may go on later."""

    exit_code = EXIT_FAILED


@dataclass(frozen=True)
class Pushed:
    """A file that is, or would be, on the hub."""

    name: str
    bytes: int


def files_of(model: RunModel) -> list[Pushed]:
    """What a push sends. Raises TalkError where there is no folder of the run's own, or it holds no weights."""
    root = model.export
    if not is_folder(root):
        raise TalkError(f"{model.name} is {root}, which is on the hub already")
    uris = {uri.removeprefix(root).lstrip("/"): uri for uri in storage.list_files(root)}
    names = [name for name in uris if name not in OWN]
    if not any(name.endswith(".safetensors") for name in names):
        raise TalkError(
            f"{root}: no weights are there (*.safetensors); `redi-ray run` with the run's config makes them"
        )
    sizes = storage.file_sizes([uris[name] for name in names])
    return [Pushed(name, size) for name, size in zip(names, sizes, strict=True)]


def push(model: RunModel, repository: str, *, public: bool = False) -> str:
    """Make the repository if there is none, upload the folder in one commit -> the address of that commit.

    repository: NAME, or OWNER/NAME. One that is there keeps its visibility, unless `public` asks for another. Raises TalkError
    where the hub refuses the token, the name or the change, HubUnavailable where it does not answer.
    """
    from huggingface_hub import HfApi

    require_name(repository)
    files_of(model)
    api = HfApi(library_name="redi_ray")
    require_token(api)
    with hub_errors(repository):
        found = api.create_repo(repository, private=not public, exist_ok=True)
        if public:
            api.update_repo_settings(found.repo_id, private=False)
        commit = api.upload_folder(
            repo_id=found.repo_id,
            folder_path=model.local(),
            ignore_patterns=list(OWN),
            commit_message=f"{model.name} of run {model.config.name}",
        )
    return str(commit.commit_url)


def require_name(repository: str) -> None:
    """Raise TalkError for what the hub takes for no repository."""
    wrong = (
        not REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository or repository.endswith(".git")
    )
    if wrong:
        raise TalkError(
            f"{repository}: write a repository as NAME or OWNER/NAME, of letters, digits, -, _ and . (no -- or ..)"
        )


def require_token(api: object) -> None:
    """Raise TalkError where no token of the hub is here."""
    from huggingface_hub import get_token

    if not (getattr(api, "token", None) or get_token()):
        raise TalkError(
            "no token of the hub is here: set HF_TOKEN to one that may write (https://huggingface.co/settings/tokens), or run "
            "`hf auth login`"
        )


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Inside the block what the hub, and the way there, raises becomes an error that says what to do."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise TalkError("HF_HUB_OFFLINE is set, so the hub cannot be asked; unset it to push") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            advice = "the token is not valid, or may not write there (https://huggingface.co/settings/tokens)"
            raise TalkError(f"{repository}: the hub refuses ({status}): {advice}") from error
        if status is not None and status < 500 and status != 429:
            raise TalkError(f"{repository}: the hub refuses ({status}): {error.server_message or error}") from error
        raise HubUnavailable(f"{repository}: the hub answers {status}; later the same command may go on") from error
    except (httpx.TransportError, ConnectionError) as error:
        raise HubUnavailable(
            f"{repository}: the hub cannot be reached ({error}); later the same command may go on"
        ) from error
