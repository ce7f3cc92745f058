"""Names of the models that every run has; the standard graph makes them (`redi_ray.pipeline.standard`)."""

from __future__ import annotations

BASE = "base"
"""The student before any training here."""
SFT = "sft"
"""After stage 1."""
