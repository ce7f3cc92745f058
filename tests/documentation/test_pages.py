"""The pages that are made have all that the code has: no field, command, kind or objective goes without a place."""

from __future__ import annotations

import importlib
import re
from posixpath import normpath
from types import ModuleType

import pytest
from code_blocks import ROOT, blocks_of, pages

from redi_ray.cli.app import COMMANDS
from redi_ray.config.described import described_schema
from redi_ray.objectives import OBJECTIVES
from redi_ray.pipeline.kinds import KINDS

HOOKS = ROOT / "docs" / "hooks"
MADE_BY = ("repository_pages", "config_reference", "command_reference", "graph_reference", "objective_reference")


def made(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HOOKS)
        return importlib.import_module(name)


def test_every_field_of_every_section_is_described_once():
    text = "\n".join(made("config_reference").pages().values())
    schema = described_schema()
    sections = schema["$defs"] | {"ExperimentConfig": schema}
    fields = [f"{name}.{field}" for name, section in sections.items() for field in section.get("properties", {})]
    assert len(fields) > 600
    assert sorted(re.findall(r'<a id="([\w.]+)">', text)) == sorted(fields)
    assert [line for line in text.splitlines() if line.startswith("#") and "{" not in line and line[1] == "#"] == []


def test_types_and_defaults_are_those_of_the_code():
    pages = made("config_reference").pages()
    training, resources = (pages[f"reference/config/{name}.md"] for name in ("training", "resources"))
    assert "default: its own defaults, but `{learning_rate: 5.0e-05, batch_size: 128, epochs: 3}`" in training
    assert "`lr_schedule` <span" in training
    assert "`linear`, `cosine`, `constant`; default: `linear`" in training
    assert "default: `[tensorboard]`" in resources, "made anew for each config, so that the schema has none"
    assert "whole number or [whole number, whole number]; default: `1`" in resources
    assert 'default: `"\\n"`' in pages["reference/config/steps.md"], "a text of several lines, on one"
    assert "Stands at `steps.NAME`." in pages["reference/config/steps.md"]


def test_every_command_with_every_option():
    (text,) = made("command_reference").pages().values()
    assert re.findall(r"^## (\w+) ", text, re.MULTILINE) == list(COMMANDS)
    assert "`--no-whole`" in text
    assert "whole number; default `10`" in text
    assert "`run`, `tune`, `generate`, `curate`, `train`, `evaluate`; default `run`" in text


def test_every_kind_with_what_flows_and_every_objective():
    module = made("graph_reference")
    (kinds,) = module.pages().values()
    assert {kind.gives for kind in KINDS.values()} <= set(module.TYPES)
    assert {one for kind in KINDS.values() for types in kind.takes.values() for one in types} <= set(module.TYPES)
    assert all(f"`{name}`" in kinds for name in KINDS)
    (objectives,) = made("objective_reference").pages().values()
    assert re.findall(r"^## (\w+) ", objectives, re.MULTILINE) == list(OBJECTIVES)


def test_the_method_has_a_formula_or_a_sentence_for_every_objective():
    text = (ROOT / "docs" / "method" / "objectives.md").read_text()
    assert [name for name in OBJECTIVES if f"`{name}`" not in text] == []
    assert len([block for block in blocks_of(text, "") if block.language == "math"]) > 20


def test_every_recipe_has_its_page_with_its_config():
    pages = made("repository_pages").pages()
    for config in (ROOT / "configs" / "recipes").glob("*.yaml"):
        page = pages[f"recipes/{config.stem}.md"]
        assert config.read_text().rstrip() in page
        assert f"({config.stem}.md)" in pages["recipes/index.md"]


def test_links_of_the_repository_become_links_of_the_site():
    module = made("repository_pages")
    assert "](guide/first_run.md)" in module.read("README.md", "index.md")
    assert "](../guide/first_run.md)" in module.read("README.md", "a/page.md")
    assert "(wrong_parts.png)" in module.read("benchmarks/README.md", "benchmarks.md")
    text = "See `configs/demo.yaml`, [`configs/demo.yaml`](x.md), `no/such.yaml`.\n\n```\n`configs/demo.yaml`\n```\n"
    linked = module.named(text, "guide/data.md")
    assert linked.count("](../reference/configs.md#demo)") == 1
    assert "`no/such.yaml`." in linked


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) < 90


def test_links_lead_to_files_that_are_there():
    """A page that lies elsewhere loses a link to what the site has not, so the site's own check does not see it; a page of
    the site leads to pages of the site alone."""
    lost, site = [], {f"docs/{page}" for name in MADE_BY for page in made(name).pages()}
    for path in pages():
        prose = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]
        for target in filter(None, targets):
            place = normpath(path.relative_to(ROOT).parent / target)
            outside = path.is_relative_to(ROOT / "docs") and not place.startswith("docs/")
            if place not in site and (outside or not (ROOT / place).exists()):
                lost.append(f"{path.relative_to(ROOT)}: {target}")
    assert lost == []
