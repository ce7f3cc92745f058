"""Names that every run has; the standard graph makes them (`redi_ray.pipeline.standard`)."""

from __future__ import annotations

BASE = "base"
"""The student before any training here."""
SFT = "sft"
"""After stage 1."""
DEV = "dev"
"""The development problems, whether a training is measured on them or not."""
TAKEN = {
    "problems": "the section `problems`",
    DEV: "the run's own development problems",
    BASE: "the base model",
    "traces": "the section `generate`",
    "verified": "the section `verify`",
    "curated": "the section `curate`",
    SFT: "the section `sft`",
}
"""No arm and no named step has one of these names -> what does."""
