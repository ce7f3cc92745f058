"""The blocks of curation: what they drop, in which pass they run, and how to add one. The entry is `redi_ray.data.curate.curate`.

Four passes over tables of ids, hashes and numbers; texts are read where they lie and never shuffled:

    scan     per group of input shards: judges texts (language, contamination, format, repetition), fingerprints problems
    decide   per partition of the problem ids: pass rates, which traces are chosen and rejected
    select   one task over all problems that are left: duplicates, caps of the difficulty buckets
    write    per group of input shards again: fetches the chosen texts, measures tokens, writes examples and pairs

A pass hands its rows to the next in files whose row groups are the next pass's tasks (`work.py`), so that each task reads
only what is its own. A finished task leaves its counts in a file and is not computed again.

How to add a block:

1. Its settings: a class in `redi_ray/config/curation.py` and a field of `CurateConfig` that is null by default.
2. Its rule as a plain function: in `redi_ray/text/` if it looks at nothing but a text, else in a module here. It returns
   None, or why the row goes, in words for the column `detail`.
3. Its call, which gives the drop reason its name:
   - the text of one problem: `ProblemJudge.judge` in `scan.py`; its reason is the first that drops a problem;
   - one trace: `trace_problem` in `quality.py`; the trace is then no candidate for its side;
   - the traces of a problem together: `decide_problem` in `choice.py`, as `difficulty.py` does;
   - all problems together: `select` in `select.py`; put what it must know into SURVIVOR, as a hash or a number;
   - what depends on the student's tokens: `Writer` in `write.py`.
4. A test in `tests/data/` that fails without the block, with its reason in the table `dropped`.

Whatever it does must not depend on the order or the sharding of the input: decide by ids, hashes and `sample_index`. Count
through `Drops`, which writes the row and the count together, so that in = out + dropped holds to the last row.
"""
