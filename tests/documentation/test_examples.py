"""What README and site show works: every config is read and its steps fit together, every command is run, or is known to the
command line and says in `NOT_RUN` which test runs it, or why none does."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from code_blocks import ROOT, SHELL, Block, Command, blocks, blocks_of, commands, pages
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.config.load import load_config, parse_config, read_yaml
from redi_ray.pipeline.standard import graph_of
from redi_ray.search.plan import SearchPlan

TEXT, CODE = frozenset({"", "text", "math"}), frozenset({"python"})
CHEAP = frozenset({"graph", "config", "plan"})
"""Commands that are run here: without Ray, in a second or two, on files of the repository."""
STANDS_FOR = {"CONFIG": "configs/demo.yaml"}
NOT_RUN: dict[str, tuple[str, str]] = {
    "redi-ray run": ("it takes minutes", "tests/test_pipeline.py"),
    "redi-ray generate": ("it takes minutes", "tests/test_pipeline.py"),
    "redi-ray tune": ("it takes minutes", "tests/search/test_tune.py"),
    "redi-ray verify --traces": ("it starts Ray", "tests/cli/test_verify_command.py"),
    "redi-ray report": ("it needs a run", "tests/faults/test_full_disk.py"),
    "redi-ray inspect": ("it needs a run", "tests/report/test_browse.py"),
    "redi-ray ui": ("it serves until it is ended", "tests/cli/test_ui_command.py"),
    "redi-ray similar": ("it needs a run", "tests/cli/test_similar.py"),
    "redi-ray chat": ("it loads a model", "tests/talk/test_answer.py"),
    "redi-ray serve": ("it starts a server", "tests/talk/test_serve.py"),
    "redi-ray push": ("it asks the hub", "tests/talk/test_push.py"),
    "redi-ray init": ("it needs a file of yours", "tests/starter/test_init.py"),
    "redi-ray submit": ("it needs a cluster", "tests/cluster/test_submission.py"),
    "redi-ray status": ("it needs a cluster", "tests/cluster/test_submission.py"),
    "redi-ray stop": ("it needs a cluster", "tests/cluster/test_submission.py"),
    "redi-ray resubmit": ("it needs a cluster", "tests/cluster/test_submission.py"),
    "make": ("it installs, builds or tests", ".ci/run"),
    "python benchmarks/recipe_seeds.py": ("it takes an hour", ""),
    "pip install": ("GPU machines alone take its packages", ""),
    "docker build": (
        "there is no Docker where tests run; its files are read by tests/cluster/test_cluster_files.py",
        "",
    ),
    "kubectl": (
        "there is no Kubernetes where tests run; its files are read by tests/cluster/test_cluster_files.py",
        "",
    ),
    "ray job submit": ("it needs a cluster", "tests/test_pipeline.py"),
    "ray up": ("there is no cloud where tests run", "tests/cluster/test_aws_launch.py"),
    "ray dashboard": ("there is no cloud where tests run", ""),
    "ray down": ("there is no cloud where tests run", ""),
}
"""How a command begins -> why it is not run here, and the file whose tests run it, in small or against a server that plays the
cloud; empty where nothing does."""
BESIDE: dict[str, Any] = {
    "own": {"do": "sample", "model": "sft"},
    "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
    "located": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
    "lost": {"do": "locate", "of": "verified", "ask": "all", "locator": {"kind": "exact"}},
    "critical": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
}
"""Steps of other pieces that pieces build on."""

BLOCKS = blocks()
YAML = [block for block in BLOCKS if block.language == "yaml"]
COMMANDS = list({command.words: command for block in BLOCKS if block.is_shell for command in commands(block)}.values())


def test_every_block_has_a_language_that_is_looked_at():
    known = SHELL | TEXT | CODE | {"yaml", "json"}
    assert [block.place for block in BLOCKS if block.language not in known] == []


def test_blocks_and_commands_are_found():
    text = "- a\n\n  ```sh\n  A=1 redi-ray graph x \\\n    --json   # why\n  ```\n\n```\n$ make demo\ndone\n```\n"
    first, second = blocks_of(text, "page.md")
    assert (first.place, first.is_shell) == ("page.md:4", True)
    assert [command.words for command in commands(first)] == [("redi-ray", "graph", "x", "--json")]
    assert [str(command) for command in commands(second)] == ["make demo"]
    assert {"README.md", "docs/guide/data.md", "configs/recipes/cdpo.md"} <= {block.page for block in BLOCKS}
    assert len(pages()) > 40


# ---------------------------------------------------------------------------------------------------------------- configs


def as_config(block: Block) -> dict[str, Any]:
    """A piece of a config as a whole one: with a name, the steps that it builds on, and a model where its data are not the
    built-in world's."""
    piece = read_yaml(block.text)
    steps = piece.get("steps", {})
    imports = any(step["do"] == "import" for step in steps.values())
    elsewhere = imports or "source" in piece.get("problems", {})
    model = {"model": {"init": {"kind": "pretrained", "path": "a/model"}}} if elsewhere else {}
    named = {name: step for name, step in BESIDE.items() if re.search(rf"\b{name}\b", block.text)}
    beside = named if steps and not imports else {}
    return {"name": "x", "evaluate": {"models": ["base"]}, **model, **piece, "steps": beside | steps}


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_a_config_is_read_and_its_steps_fit_together(block: Block):
    piece, config = read_yaml(block.text), parse_config(as_config(block), block.place)
    found = graph_of(config).steps
    assert [name for name in piece.get("steps", {}) if name not in found and f"{name}@1" not in found] == []
    if config.search is not None:
        assert SearchPlan(config).num_trials > 1


# --------------------------------------------------------------------------------------------------------------- commands


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """The values of `redi-ray` with these words behind it. Raises the command line's own error for what it does not know."""
    name, *rest = words
    group: Any = typer.main.get_command(app)
    assert name in group.commands, f"no command {name}"
    return group.commands[name].make_context(name, [STANDS_FOR.get(word, word) for word in rest]).params


def reason(command: Command) -> str | None:
    """The entry of `NOT_RUN` that covers a command: the longest one that it begins with."""
    fits = [known for known in NOT_RUN if f"{command} ".startswith(f"{known} ")]
    return max(fits, key=len, default=None)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_known_with_its_options_and_files(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And run, where that is cheap. Configs that it names are there, and take the changes behind them."""
    monkeypatch.chdir(ROOT)
    program, *rest = command.words
    named = [word for word in rest if re.match(r"(configs|benchmarks|cluster|jobs|tests)/", word)]
    assert [word for word in named if not Path(word).exists()] == [], command.place
    if program == "make":
        targets = re.findall(r"^([\w-]+):", Path("Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), command.place
    if program == "python":
        options = [word for word in rest[1:] if word.startswith("--")]
        assert [option for option in options if option not in Path(rest[0]).read_text()] == [], command.place
    if program != "redi-ray":
        assert reason(command), f"{command.place}: give `{command}` its line in NOT_RUN"
        return
    values = parsed(tuple(rest))
    config, changes = values.get("config"), [*(values.get("overrides") or ())]
    if config is not None:
        load_config(config, changes)
    if rest[0] not in CHEAP:
        assert reason(command), f"{command.place}: run `{command}` here, or give it its line in NOT_RUN"
        return
    words = [STANDS_FOR.get(word, word) for word in rest]
    place = [] if "--schema" in words or config is None else [f"storage.root={tmp_path}"]
    result = CliRunner().invoke(app, [words[0], *words[1:2], *place, *words[2:]])
    assert result.exit_code == 0, f"{command.place}: {result.output}"
    assert result.output.strip()


@pytest.mark.parametrize("begins", NOT_RUN)
def test_a_reason_is_needed_and_its_test_runs_the_command(begins: str):
    assert begins in {reason(command) for command in COMMANDS}, "no page shows it any more"
    why, test = NOT_RUN[begins]
    assert why
    if test:
        word = begins.rsplit(maxsplit=1)[-1].removeprefix("--")
        assert re.search(rf"\b{word}\b", (ROOT / test).read_text()), f"{test} does not run {begins}"


def test_commands_in_the_text_are_known():
    """`redi-ray tune CONFIG` in a sentence: the command is there, and so are options that stand with it."""
    group: Any = typer.main.get_command(app)
    unknown = []
    for path in pages():
        prose = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        for words in (found.split() for found in re.findall(r"`redi-ray (\w[^`]*)`", prose)):
            command = group.commands.get(words[0])
            options = (
                {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)} if command else set()
            )
            used = {word for word in words if word.startswith("--")}
            if command is None or not used <= options | {"--help"}:
                unknown.append(f"{path.relative_to(ROOT)}: redi-ray {' '.join(words)}")
    assert unknown == []


def code_works(block: Block) -> bool:
    """Whether it compiles, and what it imports of the package is there. Raises what Python says where not."""
    if block.language == "json":
        return bool(json.loads(block.text))
    tree = ast.parse(block.text, block.place)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), block.place, "exec"), {})
    return True


def test_code_compiles_and_its_imports_are_there():
    assert all(code_works(block) for block in BLOCKS if block.language in CODE | {"json"})
    with pytest.raises(ImportError):
        code_works(Block("page.md", 1, "python", "from redi_ray.objectives import no_such_loss"))


def test_what_the_plan_of_the_paper_prints_is_what_the_page_shows(monkeypatch: pytest.MonkeyPatch):
    """The page has three lines of it, numbers and all."""
    monkeypatch.chdir(ROOT)
    (command,) = [
        command for command in COMMANDS if command.words[1:3] == ("plan", "configs/paper/qwen2.5_math_1.5b.yaml")
    ]
    (shown,) = [block.text for block in BLOCKS if "completion_tokens dominates" in block.text]
    monkeypatch.setenv("COLUMNS", "200")
    printed = CliRunner().invoke(app, list(command.words[1:])).output
    lines = {" ".join(line.split()) for line in printed.splitlines()}
    assert {" ".join(line.split()) for line in shown.splitlines()} <= lines
