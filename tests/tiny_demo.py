"""Overrides that make configs/demo.yaml small enough for a test."""

TINY = (
    "problems.source.num_problems=48",
    "problems.source.num_test=16",
    "model.init.corpus_size=640",
    "model.init.train.epochs=2",  # so few solutions need more steps
    "generate.shard_rows=16",
    "sft.train.epochs=1",
    "evaluate.num_samples=2",
    "evaluate.ks=[1, 2]",
)
