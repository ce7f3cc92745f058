"""`redi-ray recipes`: which there are, one of them explained, or its YAML copied."""

from __future__ import annotations

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from redi_ray.errors import UserError
from redi_ray.starter.shipped import Shipped, shipped
from redi_ray.store import storage


class TakenError(UserError):
    """A file that would be overwritten."""


def list_recipes(console: Console | None = None) -> None:
    """A line each: name, method and paper, what it needs."""
    console = console or Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("recipe", no_wrap=True, style="bold")
    table.add_column("what it does", overflow="fold")
    table.add_column("needs", overflow="fold", style="dim")
    for name, recipe in shipped().items():
        table.add_row(name, Text(recipe.title), Text(", ".join(recipe.needs) or "nothing"))
    console.print(table)
    console.print(
        Text(
            "\nredi-ray recipes NAME explains one, --copy FILE writes its YAML; redi-ray init DATA makes one for your data"
        ),
        soft_wrap=True,
    )


def explain(recipe: Shipped, console: Console | None = None) -> None:
    """Where it lies, what it needs, what to run, and its page; on a terminal with the page's headings and tables."""
    console = console or Console()
    console.print(Text(recipe.about), soft_wrap=not console.is_terminal)
    told = {
        "file": str(recipe.yaml),
        "needs": ", ".join(recipe.needs) or "nothing",
        "look": f"redi-ray graph {recipe.yaml}",
        "run": f"redi-ray {recipe.command} {recipe.yaml}",
        "copy": f"redi-ray recipes {recipe.name} --copy {recipe.name}.yaml",
    }
    for name, value in told.items():
        console.print(Text(f"{name:<6}", "bold").append(value, "not bold"), soft_wrap=True)
    page = recipe.page.read_text()
    console.print()
    if console.is_terminal:
        console.print(Markdown(page))
    else:
        console.file.write(page)


def copy(recipe: Shipped, target: str, *, force: bool) -> None:
    """Write its YAML. Raises TakenError where a file is there already."""
    require_free(target, force)
    storage.write_bytes(target, recipe.text.encode())
    print(f"{target}: {recipe.title}\nnext: redi-ray graph {target}; redi-ray {recipe.command} {target}")


def require_free(target: str, force: bool) -> None:
    """Raise TakenError where a file is there already, unless it may be replaced."""
    if not force and storage.exists(target):
        raise TakenError(f"{target} is there already: name another file, or --force to replace it")
