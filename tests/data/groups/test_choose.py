"""Which samples of a problem stay: caps that hold together."""

from __future__ import annotations

from redi_ray.config.group_steps import GroupSettings
from redi_ray.data.groups.choose import Losses, choose


def test_no_cap_breaks_another() -> None:
    """3 right and 5 wrong samples, as many wrong as right and 4 in all: by any seed 4 are kept, and no more than 2 are wrong."""
    rewards = [1.0] * 3 + [-1.0] * 5
    members = [{"problem_id": "p", "sample_index": number, "reward": reward, "no_reward": None}
               for number, reward in enumerate(rewards)]  # fmt: skip
    for seed in range(20):
        settings = GroupSettings(rewards={"correct": 1, "wrong": -1}, most_wrong=1, most=4, seed=seed)
        losses = Losses()
        (kept,) = choose(settings, "p", members, {"pass_rate": 3 / 8, "correct": 3, "samples": 8}, losses)
        assert len(kept) == 4
        assert sum(member["reward"] < 0 for member in kept) <= 2
        assert sum(losses.counts.values()) == 4


def test_a_cap_leaves_both_sides_where_both_are_asked_for() -> None:
    """Seven wrong samples and a right one, of which two stay: always the right one and a wrong one."""
    members = [{"problem_id": "p", "sample_index": number, "reward": -1.0 + 2 * (number == 3), "no_reward": None}
               for number in range(8)]  # fmt: skip
    for seed in range(20):
        settings = GroupSettings(rewards={"correct": 1, "wrong": -1}, both_sides=True, most=2, seed=seed)
        (kept,) = choose(settings, "p", members, {"pass_rate": 1 / 8, "correct": 1, "samples": 8}, Losses())
        assert sorted(member["reward"] for member in kept) == [-1, 1]
