"""What must not stand in a config: it is printed, saved beside every output and sent to a cluster's job list."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KEY = re.compile(
    r"\bsk-(?=[\w-]*\d)[\w-]{20,}"  # the prefixes of hosted services, and lengths that no name or path has
    r"|\b(?:hf|gsk|r8|fw)_[A-Za-z0-9]{20,}"
    r"|\b(?:xai|pplx|nvapi)-[\w-]{30,}"
    r"|\bAIza[\w-]{30,}|\bAKIA[A-Z0-9]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}"
    r"|\b[Bb]earer\s+[\w.-]{16,}"
    r"|\bASIA[A-Z0-9]{16}\b|\bgh[po]_[A-Za-z0-9]{20,}|\bxox[abp]-[\w-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]+:[^/\s@]+@"  # an address with a password
)
_NAME = re.compile(
    r"(^|_)(api_?key|access_?key(_id)?|secret|token|passw(or)?d|passphrase|credentials?|private_?key|auth)(_|$)", re.I
)
"""Names of variables that hold secrets, in part or whole."""


def holds_a_key(value: Any) -> bool:
    """Whether a string anywhere in `value` (mappings and lists opened) looks like an API key or a token."""
    if isinstance(value, dict):
        return any(holds_a_key(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_a_key(item) for item in value)
    return isinstance(value, str) and _KEY.search(value) is not None


def secret_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables whose name or value looks like a secret, sorted.

    Example: {"AWS_REGION": "eu-west-1", "HF_TOKEN": "x"} -> ["HF_TOKEN"].
    """
    return sorted(name for name, value in environment.items() if _NAME.search(name) or holds_a_key(value))
