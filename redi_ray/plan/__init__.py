"""What a run will cost, from its config alone: tokens, GPU memory, GPU-hours, storage. Nothing is started or loaded.

    sample.py       what the data at hand say: counts, token lengths
    assumptions.py  everything else, each with its plausible range and where it comes from
    lengths.py      distributions of sequence lengths
    shapes.py       model sizes: parameters, adapters
    flops.py        floating-point operations of training and scoring
    serving.py      tokens per second of an engine, by its memory traffic
    memory.py       bytes per training rank, and the token budget that fits
    workload.py     counts and lengths that the config's own line makes of all that;  derived.py: that named steps make
    footprint.py    memory of every training, bytes on disk
    engines.py, trainings.py   what asking a model costs, and what training one
    inputs.py       what all that is read off
    estimate.py     every step of the graph, as costs.py has them;  sensitivity.py: which assumption moves the total most
    show.py         tables

Left out: the CPU time of verification and curation, start-up of engines and workers, checkpoints being written, probes, and
what failures cost.
"""
