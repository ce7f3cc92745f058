"""Imports point down only, and the training core needs nothing but torch and transformers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "redi_ray"

ROOMS = (
    "errors", "schemas", "store", "config", "text", "tools", "objectives", "modeling", "cluster", ("data", "train"), "eval",
    "stages", "pipeline", "plan", "search", "report", ("talk", "starter", "ui"), "cli",
)  # fmt: skip
"""From the bottom up; two side by side know nothing of each other."""
LAYERS = {name: number for number, rooms in enumerate(ROOMS) for name in ([rooms] if isinstance(rooms, str) else rooms)}

CORE = ("objectives", "modeling", "train")
RAY_SIDE = "redi_ray.train.on_ray"


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Every module imported anywhere in the file, function bodies included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: name the whole module, or its room is not seen"
            assert node.module
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def top(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "redi_ray" and len(parts) > 1 else None


def test_whatever_loads_a_model_or_tokenizer_says_whether_its_code_is_trusted():
    """One loader that forgets it reads another tokenizer than the others, or ends the run hours in."""
    loaders = ("load_tokenizer", "end_of_turn_ids", "AutoTokenizer.from_pretrained", "AutoConfig.from_pretrained",
               "AutoModelForCausalLM.from_pretrained", "AutoModelForCausalLM.from_config")  # fmt: skip
    known = {"redi_ray.modeling.exact"}  # builds what `is_remote` has let through
    wrong = []
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in loaders and module not in known:
                told = len(node.args) > 1 or any(k.arg in (None, "trust_remote_code") for k in node.keywords)
                wrong += [] if told else [f"{module}:{node.lineno} {name}"]
    assert wrong == []


def test_every_module_has_a_layer_and_imports_point_down():
    wrong = []
    for module, path in modules().items():
        mine = top(module)
        if mine is None:
            continue
        assert mine in LAYERS, f"{module}: give `{mine}` a place among the rooms"
        for imported in imports_of(path):
            theirs = top(imported)
            if theirs in LAYERS and LAYERS[theirs] > LAYERS[mine]:
                wrong.append(f"{module} imports {imported}")
            if {mine, theirs} == {"data", "train"}:
                wrong.append(f"{module} imports {imported}: the engines must not know each other")
    assert not wrong, "\n".join(wrong)


def test_the_page_of_the_layout_has_every_room():
    tree = (
        (PACKAGE.parent / "docs" / "project" / "layout.md")
        .read_text()
        .partition("\nredi_ray/\n")[2]
        .partition("\njobs/")[0]
    )
    told = {line.split("/")[0].strip() for line in tree.splitlines() if "/" in line.split()[0]}
    assert told == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_core_trains_without_ray_pyarrow_pydantic_and_vllm():
    """Importing every core module with those packages blocked works, so does what they import."""
    names = [
        module
        for module in modules()
        if top(module) in CORE and not module.startswith(RAY_SIDE) and module.count(".") > 1
    ]
    program = f"""
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "pyarrow", "pydantic", "vllm"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
for name in {sorted(names)!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
