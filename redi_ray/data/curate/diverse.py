"""Block `diversity`: some problems that stand for all, by their embeddings. The ways are in `redi_ray.data.embed.spread`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from redi_ray.config.curation import Diversity
from redi_ray.data.curate.block import CorpusBlock, vectors_of, without
from redi_ray.data.curate.work import Curation, Drops
from redi_ray.data.embed.spread import measures, select_rows
from redi_ray.store import storage

MEASURES = "diversity.json"


class DiversityBlock(CorpusBlock):
    """Problems that are not among the selected ones. Where there are no more than are wanted, all stay."""

    reasons = ("not_diverse",)
    embeds = True

    def __init__(self, config: Diversity, seed: int, measured: str) -> None:
        """measured: where the measures of the selection and of its control go."""
        self.config, self.seed, self.measured = config, seed, measured

    @classmethod
    def of(cls, curation: Curation) -> DiversityBlock | None:
        config = curation.config.diversity
        return None if config is None else cls(config, curation.config.seed, curation.work(MEASURES))

    def sieve(self, table: pa.Table, drops: Drops) -> pa.Table:
        vectors = vectors_of(table)
        selected = select_rows(vectors, self.config.problems, self.config.by, self.seed)
        control = select_rows(vectors, self.config.problems, "random")
        told = {"selected": measures(vectors, selected), "random": measures(vectors, control)}
        storage.write_json(self.measured, told)
        gone = np.setdiff1d(np.arange(table.num_rows), selected)
        return without(table, dict.fromkeys(gone.tolist(), f"by {self.config.by}"), "not_diverse", drops)
