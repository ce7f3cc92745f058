"""The planner's error."""

from __future__ import annotations

from redi_ray.errors import UserError


class PlanError(UserError):
    """Something the plan needs is not known, or cannot be; the message says what to give."""
