"""Label selectors: which nodes of a Ray cluster may do a stage's work.

The syntax is Ray's, that is Kubernetes' for labels. Two forms that Ray takes and then matches otherwise than they read are
errors here: `in(a, b)`, where the second value would begin with a blank, and `(a,b)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
KEY = re.compile(rf"(?:(?P<prefix>{NAME}(?:\.{NAME})*)/)?{NAME}")
VALUE = re.compile(rf"!?(?:{NAME}|in\({NAME}(?:,{NAME})*\))")
LONGEST_PREFIX = 253
HOW = "write key: value, where a value is `spot`, `!spot`, `in(a,b)` or `!in(a,b)`, without blanks"


def selector_error(selector: Mapping[str, str]) -> str | None:
    """What is wrong with a selector, None if nothing is. An empty one is met by every node."""
    for key, value in selector.items():
        found = KEY.fullmatch(key)
        if found is None or len(found["prefix"] or "") > LONGEST_PREFIX:
            return f"{key!r} is no key of a label: letters, digits and `-_.`, with an optional `prefix/`; {HOW}"
        if VALUE.fullmatch(value) is None:
            return f"{key}: {value!r} is no value of a label selector; {HOW}"
    return None
