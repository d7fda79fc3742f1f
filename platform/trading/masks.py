"""Which symbols a rule speaks about: `EUR*,!EURCHF` means every name that begins with EUR, except EURCHF.

One meaning of masks for the whole house: routing conditions, group overrides and whatever comes next read them here.
"""

import re
from collections.abc import Callable
from fnmatch import translate


class MaskRefused(ValueError):
    """The mask has an empty part, or lets nothing in at all: says which mask, in a sentence."""


def mask(pattern: str) -> Callable[[str], bool]:
    """Shell-style patterns separated by commas; what a `!` pattern matches is out, whatever else matches it.

    Upper and lower case differ. Raises MaskRefused for empty parts, and where there are only exclusions.
    """
    parts = [part.strip() for part in pattern.split(",")]
    wanted = [part for part in parts if not part.startswith("!")]
    unwanted = [part[1:].strip() for part in parts if part.startswith("!")]
    if not wanted or not all(wanted) or not all(unwanted):
        raise MaskRefused(f"the mask {pattern!r} has an empty part, or only exclusions")
    inside = _any_of(wanted)
    if not unwanted:
        return lambda name: inside(name) is not None
    outside = _any_of(unwanted)
    return lambda name: inside(name) is not None and outside(name) is None


def _any_of(patterns: list[str]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(translate(pattern) for pattern in patterns)).match
