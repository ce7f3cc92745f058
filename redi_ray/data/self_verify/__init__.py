"""Texts in which a model verifies its attempts (S2R, arXiv 2502.12853), put together of the samples of groups."""
