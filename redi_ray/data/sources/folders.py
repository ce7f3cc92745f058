"""Which files of a folder hold rows. What would be left unread is refused or told, never passed over in silence."""

from __future__ import annotations

import re

from redi_ray.cluster.runtime import log
from redi_ray.errors import UserError
from redi_ray.store import storage

COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz", ".lz4")
SUFFIXES = (
    *(
        f"{format}{packed}"
        for format in (".jsonl", ".ndjson", ".jsonlines", ".json", ".csv", ".tsv")
        for packed in COMPRESSIONS
    ),
    ".parquet",
    ".arrow",
)
READABLE = (
    "JSON lines (.jsonl, .ndjson), JSON lists (.json), .csv and .tsv, each also as .gz, .zst, .bz2, .xz or .lz4, .parquet and "
    ".arrow"
)
ABOUT_DATA = (
    "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "manifest.json", "settings.json",
    "config.json", "generation_config.json", "metadata.json", "croissant.json", "schema.json", "readme.json",
)  # fmt: skip
"""Names of files that tell of the rows, or of the run that wrote them, and hold none."""
DATA = frozenset(
    {
        "jsonl", "ndjson", "jsonlines", "jl", "json", "parquet", "pq", "arrow", "ipc", "feather", "csv", "tsv", "orc",
        "avro", "lance", "pkl", "pickle", "xls", "xlsx", "zip", "tar", "tgz", "7z", "rar",
    }
)  # fmt: skip
"""Parts of a name, between points, of a file that holds rows, whether or not it can be read."""
BESIDE_DATA = frozenset(
    {
        "md", "rst", "yaml", "yml", "toml", "py", "sh", "ipynb", "png", "jpg", "jpeg", "svg", "pdf", "html", "log",
        "crc", "md5", "sha1", "sha256", "sha512", "lock", "idx", "index", "etag", "asc", "sig", "metadata",
        "gitattributes", "tmp",
    }
)  # fmt: skip
"""Last parts of the names of files that are known to hold no rows."""
SPLITS = ({"train"}, {"test", "validation", "valid", "val", "eval", "dev"})
"""Words in the names of files: what one trains on, and what is kept from it."""
NAMES_SHOWN = 5


class DataError(UserError):
    """Input that cannot be used at all; the message says what, where and how to mend it."""


def expand_paths(paths: list[str], told: str = "problems.source.paths") -> list[str]:
    """All data files that the paths name, folders opened, in order. `told` is what the user calls the paths.

    In a folder, hidden files and folders, files about the data and rejects of our own runs are left out. A file that is
    named outright is read whatever its name.

    Raises DataError if there are none, or if a folder holds data of a kind that cannot be read.
    """
    files: list[str] = []
    others: list[str] = []
    for path in paths:
        if not storage.exists(path):
            raise DataError(f"{told}: {path} is not there")
        found = storage.list_files(path)
        root = storage.resolve(path).rstrip("/")
        files.extend(found if found == [root] else _data_files(root, found, told))
        others.extend(found)
    if not files:
        example = f"{told}=[FILE]" if told.endswith(".paths") else f"{told} FILE"
        beside = (
            f", only {_few(short_names(others))}; a file that is named itself is read whatever its name"
            if others
            else ""
        )
        empty = f"{told}: no data file in {_few(paths)}{beside}" if paths else f"{told} is empty"
        raise DataError(f"{empty}; name files or folders with {READABLE} (on the command line: {example})")
    return list(dict.fromkeys(files))


def short_names(uris: list[str]) -> list[str]:
    """Each file's path below the folder that all of them share."""
    parts = [uri.split("/") for uri in uris]
    shared = 0
    while parts and all(len(path) > shared + 1 and path[shared] == parts[0][shared] for path in parts):
        shared += 1
    return ["/".join(path[shared:]) for path in parts]


def _data_files(root: str, found: list[str], told: str) -> list[str]:
    """Those of the files below `root` that hold rows."""
    kept, unread, aside = [], [], []
    for uri in found:
        name = uri[len(root) + 1 :]
        *folders, last = name.lower().split("/")
        if any(part.startswith(".") for part in (*folders, last)) or last in ABOUT_DATA:
            continue
        if any(part.startswith("_") for part in (*folders, last)) or _is_derived(folders, last):
            aside += [name] if last.endswith(SUFFIXES) else []
        elif last.endswith(SUFFIXES):
            kept.append(uri)
        elif last.rsplit(".", 1)[-1] in BESIDE_DATA or last.split(".")[0] in ("readme", "license", "notice"):
            continue
        elif DATA.intersection(part.split("-")[0] for part in last.split(".")[1:]):  # x.jsonl-00000-of-00008
            unread.append(name)
        else:
            aside.append(name)
    if unread:
        raise DataError(
            f"{told}: {root} holds data files that cannot be read ({len(unread)}): {_few(unread)}. Convert or unpack them, move "
            f"them away, or name the files to be read one by one. What can be read: {READABLE}"
        )
    words = set(re.findall("[a-z]+", " ".join(short_names(kept)).lower()))
    if all(words & split for split in SPLITS):
        splits = ", ".join(sorted(words & (SPLITS[0] | SPLITS[1])))
        log.warning(
            "%s: %s holds several splits (%s), and all are read; name the files to read one", told, root, splits
        )
    if aside:
        log.warning("%s: not read in %s (%d): %s", told, root, len(aside), _few(aside))
    return kept


def _is_derived(folders: list[str], last: str) -> bool:
    """Whether a file holds what one of our own runs rejected, or what `datasets` has made of rows beside it."""
    return (folders[-1:] == ["rejects"] and last.startswith("part-")) or (
        last.startswith("cache-") and last.endswith(".arrow")
    )


def _few(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
