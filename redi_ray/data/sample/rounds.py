"""What each round of sampling asks for: every problem that has no right trace yet, or those that promise most pairs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from redi_ray.cluster.runtime import log
from redi_ray.config.data import SampledTraces
from redi_ray.data.sample.frontier import Tally, add_verdicts, allocate, problems_of, saved
from redi_ray.data.sample.samples import Requests
from redi_ray.data.sources.ids import IdSet
from redi_ray.store import storage


def round_name(number: int) -> str:
    return f"round-{number:03d}"


class Choice(Protocol):
    """Who is asked in which round."""

    def ask(self, number: int) -> tuple[Requests, int]:
        """The samples of a round, none where sampling is to end, and how many problems they are of."""
        ...

    def learn(self, number: int, verdicts_uri: str) -> dict[str, Any]:
        """What came of a round; what the manifest says of it beside its counts."""
        ...


class Unsolved:
    """Each problem without a right trace, as often as all others."""

    def __init__(self, config: SampledTraces, problems: list[str], num_problems: int, solved: IdSet) -> None:
        """solved: grows while a round is made."""
        self.each, self.problems, self.num_problems, self.solved = (
            config.samples_per_round,
            problems,
            num_problems,
            solved,
        )

    def ask(self, number: int) -> tuple[Requests, int]:
        indices = range(number * self.each, (number + 1) * self.each)
        requests = Requests.of_problems(self.problems, self.num_problems, indices, self.solved)
        return requests, self.num_problems - len(self.solved)

    def learn(self, number: int, verdicts_uri: str) -> dict[str, Any]:
        return {}


class Promising:
    """Where pairs are to be had; the first round is the same for all. What a round asks for is written down before it begins."""

    def __init__(self, config: SampledTraces, problems: list[str], traces_uri: str) -> None:
        assert config.frontier is not None
        self.config, self.settings, self.problems, self.traces_uri = config, config.frontier, problems, traces_uri
        self.tally = Tally.of(problems_of(problems))

    def ask(self, number: int) -> tuple[Requests, int]:
        if number == 0:
            wanted = np.full(len(self.tally.problems), self.config.samples_per_round)
        else:
            budget = round(self.settings.samples * len(self.tally.problems))
            wanted = allocate(self.tally, self.settings, budget, self.config.seed, number)
        counts = saved(storage.join(self.traces_uri, "allocation", f"{round_name(number)}.npy"), wanted)
        requests = Requests.of_allocation(self.problems, self.tally.problems, self.tally.asked, counts)
        self.tally = self.tally.with_asked(counts)
        if not requests.asked:
            log.info("round %d: no problem promises further pairs", number)
        return requests, int((counts > 0).sum())

    def learn(self, number: int, verdicts_uri: str) -> dict[str, Any]:
        self.tally = add_verdicts(self.tally, storage.list_files(verdicts_uri, ".parquet"))
        pairs = self.tally.paired(self.settings.pairs)
        log.info("round %d: %d pairs of %d problems", number, pairs, len(self.tally.problems))
        return {"pairs": pairs}


def choice_of(config: SampledTraces, problems: list[str], num_problems: int, solved: IdSet, traces_uri: str) -> Choice:
    """As the config says."""
    if config.frontier is not None:
        return Promising(config, problems, traces_uri)
    return Unsolved(config, problems, num_problems, solved)
