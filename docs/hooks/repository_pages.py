"""Pages that lie beside the code they are about: each is taken as it stands, and its links made to fit the site."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "cluster/README.md": "guide/clusters.md",
    "tests/faults/README.md": "reference/faults.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
"""File of the repository -> its page, below `docs/`."""
RECIPES = "configs/recipes"
ABOUT_RECIPES = """Published methods as configs, each in a built-in world that a laptop runs through in minutes, each with its
controls and a page that says what differs from the paper and what was seen. `redi-ray graph CONFIG` draws one,
`redi-ray run CONFIG` runs it; `model`, `problems` and `resources` are what changes for a model and data of your own."""
CONFIGS = "reference/configs.md"
"""The page with the configs that are no recipes."""


def pages() -> dict[str, str]:
    """Path below `docs/` -> Markdown."""
    found = {page: read(source, page) for source, page in PAGES.items()}
    recipes = sorted((ROOT / RECIPES).glob("*.md"))
    for path in recipes:
        page = f"recipes/{path.name}"
        source = f"{RECIPES}/{path.name}"
        found[page] = read(source, page) + _config(path.with_suffix(".yaml"), "## The config")
    configs = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "recipes")
    told = "# The other configs\n\nThose of `configs/`, beside the recipes, as they stand in the repository.\n"
    found[CONFIGS] = told + "".join(
        _config(path, f"## {path.relative_to(ROOT)} {{ #{path.stem} }}") for path in configs
    )
    found["recipes/index.md"] = _recipes_index(recipes)
    return found


def read(source: str, page: str) -> str:
    """A file of the repository as the text of a page: links lead to pages of the site, and where there is none they are only
    named."""
    text = (ROOT / source).read_text()

    def link(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        theirs = site_path(normpath(str(PurePosixPath(source).parent / path)))
        if theirs is None:
            return label
        return f"[{label}]({relpath(theirs, PurePosixPath(page).parent)}{f'#{anchor}' if anchor else ''})"

    return re.sub(r"\[([^\]\n]+(?:\n[^\]\n]+)?)\]\(([^)\s]+)\)", link, text)


def named(text: str, page: str) -> str:
    """The text of a page with links where it names files that have a page, such as `configs/demo.yaml`; not in code blocks."""

    def link(found: re.Match[str]) -> str:
        path = site_path(found[1])
        if path is None or path.partition("#")[0] == page:
            return found[0]
        return f"[{found[0]}]({relpath(path, PurePosixPath(page).parent)})"

    kept = r"^ *```.*?^ *```$|\[[^\]]*\]\([^)]*\)|^#[^\n]*$"  # blocks, links, headings
    parts = re.split(f"({kept})", text, flags=re.DOTALL | re.MULTILINE)
    paths = re.compile(r"`([\w./-]+\.(?:md|yaml))`")
    return "".join(part if place % 2 else paths.sub(link, part) for place, part in enumerate(parts))


def site_path(path: str) -> str | None:
    """The page, picture or part of a page that shows a file or folder of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    if path.startswith(f"{RECIPES}/") and (ROOT / path).is_file():
        return f"recipes/{PurePosixPath(path).stem}.md" + ("#the-config" if path.endswith(".yaml") else "")
    if path.startswith("configs/") and path.endswith(".yaml") and (ROOT / path).is_file():
        return f"{CONFIGS}#{PurePosixPath(path).stem}"
    return {RECIPES: "recipes/index.md", "configs": CONFIGS}.get(path.rstrip("/"))


def _config(path: Path, heading: str) -> str:
    return f"\n\n{heading}\n\n`{path.relative_to(ROOT)}`\n\n```yaml\n{path.read_text().rstrip()}\n```\n"


def _recipes_index(recipes: list[Path]) -> str:
    """The recipes by name, each with the first sentences of its page."""
    lines = ["# Recipes", "", ABOUT_RECIPES, ""]
    for path in recipes:
        title, _, rest = path.read_text().partition("\n")
        first = " ".join(rest.strip().split("\n\n")[0].split()).rstrip(":") + " "
        sentence = re.match(r".{60,}?\.(?= [A-Z])|.*", first)
        assert sentence is not None
        lines += [f"[{title.lstrip('# ')}]({path.name})", f":   {sentence[0].strip()}", ""]
    return "\n".join(lines) + "\n"
