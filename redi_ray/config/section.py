"""What every section of the YAML is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A section of the YAML: immutable, unknown keys are errors, numbers finite. What stands below a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
