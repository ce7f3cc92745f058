"""The first wrong step of a sample anew (Step-DPO, arXiv 2406.18629): pairs whose sides differ in that one step.

    verified, steps with labels -> starts -> sampled on from there -> verified -> pairs

`starts` finds what stands before the wrong step; that is sampled on from and verified like any problem; `pairs` takes the first
step of what then is right.
"""
