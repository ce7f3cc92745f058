"""Tables of a finished step for others: to the hub as a data set, to S3, or into a folder, with a card of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.modeling.cards import CARD
from redi_ray.pipeline.cards import finished
from redi_ray.pipeline.data_cards import TableFacts, data_card_of, render_data_card
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.rounds import written
from redi_ray.pipeline.standard import graph_of
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest
from redi_ray.talk.models import TalkError, run_of
from redi_ray.talk.push import Pushed, hub_errors, require_name, require_token

OWN = "work"
"""A folder of an output that is no table: what its passes hand on."""
SOURCE = "source"
ENDING = ".parquet"
TAG = "- redi_ray"
DRAFT = "---\ntags:\n- redi_ray\n---\n\nNot all of it is here yet.\n"
"""The card while files are copied."""


@dataclass(frozen=True)
class RunTables:
    """Tables of a finished step, ready to be sent."""

    step: str
    config: ExperimentConfig
    files: dict[str, str]
    """`<table>/<file>` -> where it lies."""
    card: str

    @property
    def listed(self) -> list[Pushed]:
        """Everything that is sent, with its size."""
        sizes = storage.file_sizes(list(self.files.values()))
        data = [Pushed(name, size) for name, size in zip(self.files, sizes, strict=True)]
        return [Pushed(CARD, len(self.card.encode())), *data]


def find_tables(target: str, name: str, wanted: Sequence[str] = ()) -> RunTables:
    """Tables of a step of a run. target: see `redi_ray.talk.models.run_of`; of a repeated step the bare name means its last
    finished round. wanted: their names; none takes those that the step's kind is for.

    Raises TalkError for a step that is none, is not finished, or has no such table.
    """
    uri, config = run_of(target)
    graph = graph_of(config)
    made = finished(Run(config, uri), graph)
    step = _step_of(uri, graph, made, name)
    manifest = made[step.name]
    files = _files_of(manifest)
    there = list(files)
    usual = [table for table in KINDS[step.kind].tables if table in files]
    for table in wanted:
        if table not in files:
            raise TalkError(f"{step.name} has no table {table}; it has {', '.join(there) or 'none'}")
    chosen = list(dict.fromkeys(wanted)) or usual
    if not chosen:
        more = f"; name one by --table: {', '.join(there)}" if there else ""
        model = "; a model is pushed by --model" if step.gives == "model" else ""
        raise TalkError(f"{step.name} ({step.kind}) has no rows to push{model or more}")
    facts = [_facts_of(table, files[table]) for table in chosen]
    card = render_data_card(data_card_of(config, graph, step.name, made, facts))
    sent = {f"{table}/{file}": place for table in chosen for file, place in files[table].items()}
    return RunTables(step.name, config, sent, card)


def _step_of(uri: str, graph: Graph, made: dict[str, Manifest], name: str) -> Step:
    rounds = [step.name for step in graph if written(step.name) == name]
    name = next((step for step in reversed(rounds) if step in made), name)
    if name in made:
        return graph[name]
    listed = ", ".join(step for step in made if KINDS[graph[step].kind].tables) or "none yet"
    if name in graph.steps or rounds:
        raise TalkError(
            f"{uri}: {name} is not finished (redi-ray run CONFIG --until {name}); finished steps with tables: {listed}"
        )
    near = get_close_matches(name, graph.steps, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise TalkError(f"{uri}: no step named {name}{meant}; finished steps with tables: {listed}")


def _files_of(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Table -> its files, by their names within it."""
    root, found = storage.resolve(manifest.uri).rstrip("/"), dict[str, dict[str, str]]()
    for uri in storage.list_files(root, ENDING):
        table, _, file = uri.removeprefix(root).lstrip("/").partition("/")
        if file and table != OWN:
            found.setdefault(table, {})[file] = uri
    return found


def _facts_of(table: str, files: dict[str, str]) -> TableFacts:
    """From its footers, and from its column `source` alone."""
    uris, sources = list(files.values()), Counter[str]()
    schema = parquet.read_schema(uris[0])
    if SOURCE in schema.names and pa.types.is_string(schema.field(SOURCE).type):
        for uri in uris:
            for batch in parquet.read_batches(uri, [SOURCE]):
                sources.update(one or "unknown" for one in batch[SOURCE].to_pylist())
    rows = sum(map(parquet.count_rows, uris))
    return TableFacts(table, rows, len(uris), sum(storage.file_sizes(uris)), schema, sources)


def is_place(target: str) -> bool:
    """Whether something is pushed into a folder, local or on S3, rather than to the hub."""
    return target.startswith(("s3://", "file://", "/", "./", "../", "~"))


def export(tables: RunTables, target: str) -> str:
    """Copy card and files below `target`, local or s3://, the card last -> where they are. Called again, it begins anew.

    Files that an earlier export of other rows has left in these tables go. Raises TalkError where something else is there.
    """
    root = storage.resolve(str(Path(target).expanduser()) if target.startswith("~") else target)
    card = storage.join(root, CARD)
    known = {uri.removeprefix(root).lstrip("/"): uri for uri in storage.list_files(root)}
    if known and (CARD not in known or not _is_ours(card)):
        raise TalkError(f"{target}: there are files of something else ({next(iter(known))}); name an empty folder")
    storage.write_bytes(card, DRAFT.encode())
    names = {name.partition("/")[0] for name in tables.files}
    for name, uri in tables.files.items():
        if uri.startswith("s3://"):
            with TemporaryDirectory() as folder:
                here = Path(folder) / "file"
                storage.copy_out(uri, here)
                storage.copy_in(here, storage.join(root, name))
        else:
            storage.copy_in(uri, storage.join(root, name))
    for name, uri in known.items():
        if name.partition("/")[0] in names and name.endswith(ENDING) and name not in tables.files:
            storage.delete_file(uri)
    storage.write_bytes(card, tables.card.encode())
    return root


def _is_ours(card: str) -> bool:
    """Whether a card, by its tags, is of an export."""
    return TAG in storage.read_bytes(card).decode(errors="replace").splitlines()


def push_tables(tables: RunTables, repository: str, *, public: bool = False) -> str:
    """Make the data set on the hub if there is none, upload in one commit -> the address of that commit. What an earlier push has
    left in these tables goes in the same commit.

    Raises TalkError and HubUnavailable as `redi_ray.talk.push.push` does.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    require_name(repository)
    api = HfApi(library_name="redi_ray")
    require_token(api)
    names = {name.partition("/")[0] for name in tables.files}
    with ExitStack() as stack, hub_errors(repository):
        found = api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        if public:
            api.update_repo_settings(found.repo_id, repo_type="dataset", private=False)
        known = api.list_repo_files(found.repo_id, repo_type="dataset")
        old = [
            name
            for name in known
            if name.partition("/")[0] in names and name.endswith(ENDING) and name not in tables.files
        ]
        here = {name: _at_hand(stack, uri) for name, uri in tables.files.items()}
        commit = api.create_commit(
            found.repo_id,
            [
                CommitOperationAdd(CARD, tables.card.encode()),
                *(CommitOperationAdd(name, path) for name, path in here.items()),
                *(CommitOperationDelete(name) for name in old),
            ],
            repo_type="dataset",
            commit_message=f"{tables.step} of run {tables.config.name}",
        )
    return str(commit.commit_url)


def _at_hand(stack: ExitStack, uri: str) -> str:
    """The file on this machine, of what is on S3 a copy that goes with the stack."""
    if not uri.startswith("s3://"):
        return uri
    path = Path(stack.enter_context(TemporaryDirectory())) / "file"
    storage.copy_out(uri, path)
    return str(path)
