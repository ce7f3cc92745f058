"""What `redi-ray init` writes runs as it is, to its end, for five files in shapes that people have."""

from __future__ import annotations

from pathlib import Path

import pytest
from starting_data import FIVE, ROWS

from redi_ray.cli.entry import run_stages
from redi_ray.cli.init import start
from redi_ray.cli.stage_commands import everything
from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.store.manifests import current_manifest

TRAINED = {
    "pairs": ("alpha0", "redi"), "chats": ("tuned",), "gsm8k": ("tuned",), "alpaca": ("tuned",),
    "openr1": ("sft", "alpha0", "redi"),
}  # fmt: skip


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model's folder, as somebody has one: random weights, a tokenizer of its own, positions up to 512."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_bpe_tokenizer(["How much is 12 plus 7? It is 19. <tool_call> arguments </tool_call>"] * 50, 400)
    save_scratch_model(Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2), tokenizer, folder)
    return str(folder)


@pytest.mark.long
@pytest.mark.parametrize("name", FIVE)
def test_it_runs_to_its_end(ray_session: None, small_model: str, name: str, tmp_path: Path) -> None:
    data = FIVE[name](tmp_path)
    config, root = tmp_path / "first.yaml", tmp_path / "runs"
    start(str(data), recipe=None, out=str(config), model=small_model, columns=[])
    run_stages(str(config), [f"storage.root={root}"], everything)
    for model in TRAINED[name]:
        found = current_manifest(str(root / "first"), f"checkpoints/{model}")
        assert found.facts["total_steps"] >= ROWS // 8 if "total_steps" in found.facts else found.counts
        assert (Path(found.facts["export"]) / "config.json").exists()
        assert not {count: n for count, n in found.counts.items() if count in ("too_long", "truncated") and n}
    assert (root / "first/report/index.html").exists()
