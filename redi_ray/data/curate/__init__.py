"""The blocks of curation: what they drop, in which pass they run, and how to add one. The entry is `redi_ray.data.curate.curate`.

Four passes over tables of ids, hashes and numbers; texts are read where they lie and never shuffled:

    scan     per group of input shards: judges texts (language, contamination, format, repetition), fingerprints problems
    decide   per partition of the problem ids: pass rates, which traces are chosen and rejected
    select   one task over all problems that are left: duplicates, caps of the difficulty buckets
    write    per group of input shards again: fetches the chosen texts, measures tokens, writes examples and pairs

A pass hands its rows to the next in files whose row groups are the next pass's tasks (`work.py`), so that each task reads
only what is its own. A finished task leaves its counts in a file and is not computed again.

A block is one rule in one class (`block.py`): its settings, the columns that it reads, one method, and a name for each reason.
To add one:

1. Its settings: a class in `redi_ray/config/curation.py` and a field of `CurateConfig` (or of `TraceRules`) that is null by
   default.
2. Its class, by what it looks at: one trace (`TraceBlock`), a problem's text (`ProblemBlock`), how often it was solved
   (`RateBlock`), or all problems that are left (`CorpusBlock`: what it must know of each goes into SURVIVOR, as a hash or a
   number). A rule that looks at nothing but a text is a function in `redi_ray/text/`.
3. Its line in one of the tables of `blocks.py`, whose order is the order in which they run.
4. A test in `tests/data/` that fails without the block, with its reason in the table `dropped`.

What depends on the student's tokens, the limits on prompts and responses, is measured where the texts are written (`Writer` in
`write.py`), as the paper does it: behind the choice.

Whatever a block does must not depend on the order or the sharding of the input: decide by ids, hashes and `sample_index`. Rows
that go are noted in `Drops`, which writes the row and the count together, so that in = out + dropped holds to the last row.
"""
