"""What MkDocs does besides reading `docs/`: it adds the pages that are made from the code and from other folders' texts."""

from __future__ import annotations

import re
from typing import Any

import command_reference
import config_reference
import graph_reference
import objective_reference
import repository_pages
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

MADE_BY = (repository_pages, config_reference, command_reference, graph_reference, objective_reference)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Blocks of `math` hold LaTeX and become MathML, which browsers draw without a script."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": _formula}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for module in MADE_BY:
        for path, text in module.pages().items():
            files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Files of the repository that a page names become links to the pages that show them."""
    return repository_pages.named(markdown, page.file.src_uri)


def _formula(source: str, *_: Any, **__: Any) -> str:
    lines = [convert(line, display="block") for line in re.split(r"\n\s*\n", source.strip())]
    return f'<div class="formula">{"".join(lines)}</div>'
