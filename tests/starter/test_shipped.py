"""Recipes come with the package, each explained and right."""

from __future__ import annotations

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.starter.shipped import shipped

RECIPES = Path(__file__).resolve().parents[2] / "configs/recipes"


def test_the_package_has_the_repositorys_recipes_and_no_copy_of_them() -> None:
    assert list(shipped()) == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    for recipe in shipped().values():
        assert Path(str(recipe.yaml)).samefile(RECIPES / f"{recipe.name}.yaml")
        assert recipe.title
        assert len(recipe.title) < len(recipe.about)
        assert recipe.page.is_file(), f"{recipe.name} has no page"


def test_a_wheel_has_them_too() -> None:
    told = tomllib.loads((RECIPES.parents[1] / "pyproject.toml").read_text())
    assert "recipes/*" in told["tool"]["setuptools"]["package-data"]["redi_ray"]


def test_all_are_listed_and_one_is_explained_and_copied(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["recipes"], env={"COLUMNS": "150"}).stdout
    assert [name for name in shipped() if f"\n{name} " not in f"\n{listed}"] == []
    assert "preferences.jsonl, vLLM" in listed
    told = CliRunner().invoke(app, ["recipes", "unpacking"]).stdout
    assert "redi-ray tune" in told
    assert shipped()["unpacking"].page.read_text() in told
    copy = tmp_path / "x.yaml"
    for more, code in (([], 0), ([], 2), (["--force"], 0)):
        assert CliRunner().invoke(app, ["recipes", "cdpo", "--copy", str(copy), *more]).exit_code == code
    assert copy.read_text() == shipped()["cdpo"].text
    unknown = CliRunner().invoke(app, ["recipes", "cdp"])
    assert "did you mean cdpo?" in unknown.stderr
