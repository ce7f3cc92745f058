"""The stages of an experiment: config and inputs in, a published folder with its manifest out.

Each function asks whether its output exists under the same key, reuses it if so, resumes what an interrupted attempt
left behind, and publishes at the end. The engines that do the work (`data`, `train`, `eval`) know nothing of configs as
a whole, manifests or each other.
"""
