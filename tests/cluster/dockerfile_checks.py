"""What can be known of a Dockerfile without Docker: each check gives a line for every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR"}


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.lines if name == instruction]

    @property
    def copied(self) -> list[str]:
        """The sources of its COPY lines."""
        return [source for line in self.of("COPY") for source in line.split()[:-1]]


@dataclass
class Dockerfile:
    """The parts that are looked at."""

    arguments: dict[str, str]
    """Of ARG before the first FROM."""
    stages: dict[str, Stage]
    unknown: list[str]

    def chain(self, name: str) -> Iterator[Stage]:
        """A stage and those that it builds on."""
        while name in self.stages:
            yield self.stages[name]
            name = self.stages[name].base


def read_dockerfile(text: str) -> Dockerfile:
    """Instructions by stage; comments dropped, continued lines joined."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    found, stage = Dockerfile({}, {}, []), None
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name not in INSTRUCTIONS:
            found.unknown.append(name)
        elif name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stage = Stage(base.strip(), alias.strip())
            found.stages[stage.name] = stage
        elif stage is not None:
            stage.lines.append((name, rest.strip()))
        else:
            key, _, value = rest.partition("=")
            found.arguments[key] = value
    return found


@dataclass(frozen=True)
class Surroundings:
    """What a Dockerfile must fit."""

    tracked: Sequence[str]
    """Files in git."""
    ignore: str
    """The .dockerignore."""
    targets: Sequence[str]
    python: str
    """The version that the locks are for."""
    scripts: Sequence[str]
    """Of pyproject."""


def dockerfile_errors(text: str, around: Surroundings) -> list[str]:
    """What would fail in a build, or run as it should not."""
    file = read_dockerfile(text)
    found = [f"{name}: no instruction of a Dockerfile" for name in file.unknown]
    found += [f"target {name} is missing" for name in around.targets if name not in file.stages]
    if (python := file.arguments.get("PYTHON_VERSION")) != around.python:
        found.append(f"PYTHON_VERSION {python!r} is not {around.python}, which the locks are for")
    for stage in file.stages.values():
        found += _stage_errors(stage, file, around)
    for name in around.targets:
        found += [f"target {name} {line}" for line in _target_errors(list(file.chain(name)), around)]
    return found


def _stage_errors(stage: Stage, file: Dockerfile, around: Surroundings) -> Iterator[str]:
    """Of its base and of what it copies."""
    allowed = [line[1:] for line in around.ignore.splitlines() if line.startswith("!")]
    host = stage.base.partition("/")[0] if "/" in stage.base else ""
    if "." in host or ":" in host:
        yield f"FROM {stage.base}: names a registry host"
    if stage.base not in file.stages and not re.fullmatch(r"python:\$\{PYTHON_VERSION\}[\w.-]*", stage.base):
        yield f"FROM {stage.base}: neither a stage nor the python image"
    for source in stage.copied:
        if not any(path == source or path.startswith(source.rstrip("/") + "/") for path in around.tracked):
            yield f"COPY {source}: not in git"
        if not any(source == name or source.startswith(name + "/") for name in allowed):
            yield f"COPY {source}: left out by Dockerfile.dockerignore"


def _target_errors(stages: list[Stage], around: Surroundings) -> Iterator[str]:
    """Of an image as a whole: its own stage, then those that it builds on."""
    copied = [source for stage in stages for source in stage.copied]
    runs = [line for stage in stages for line in stage.of("RUN")]
    locks = [lock for line in runs for lock in re.findall(r"-r\s+(\S+)", line)]
    yield from (f"installs {lock}, which it has not copied" for lock in locks if lock not in copied)
    if not locks:
        yield "installs no lock"
    if not any(re.search(r"pip install .*--no-deps .*\.(\s|$)", line) for line in runs):
        yield "does not install the project itself"
    users = [line for stage in stages for line in stage.of("USER")]
    if not users or users[0].split(":")[0] in ("root", "0"):
        yield "runs as root: USER is missing"
    if not any(line.startswith("HOME=") for stage in stages for line in stage.of("ENV")):
        yield "has no ENV HOME, where the cluster launcher looks for ~"
    commands = [line for stage in stages for line in stage.of("CMD")][:1]
    if not any(f'["{script}"' in line for line in commands for script in around.scripts):
        yield f"calls none of {list(around.scripts)}: its CMD is {commands}"
