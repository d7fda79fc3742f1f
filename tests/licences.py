"""The licences of what is shipped: every package that Tribook needs at run time, and what those need in turn.

What only the development tools bring is not shipped and not looked at. `python -m tests.licences` prints the table.
"""

import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

REFUSED = re.compile(r"(?<!lesser )(?<!library )\b(affero|gnu general public|agpl|gpl)", re.IGNORECASE)
SAID_IN_A_FILE = {"quickfix": "QuickFIX Software License 1.0 (in the manner of BSD)"}
"""Packages whose metadata is silent, and what their licence file says."""
LESSER = re.compile(r"lesser general public|lgpl", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Shipped:
    name: str
    version: str
    licence: str

    @property
    def is_refused(self) -> bool:
        """GPL and AGPL bind whoever ships them; the Lesser GPL of a library that is only imported does not."""
        return bool(REFUSED.search(LESSER.sub("", self.licence)))


def shipped(root: str = "tribook") -> list[Shipped]:
    """Every package that is installed with Tribook outside development, itself excluded."""
    seen: dict[str, Shipped] = {}
    waiting = [(root, frozenset[str]())]
    while waiting:
        name, extras = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # a requirement for another platform
        for needed in _needed(package, extras):
            key = needed.name.lower().replace("_", "-")
            if key not in seen or needed.extras:
                seen.setdefault(key, Shipped(key, "", ""))
                waiting.append((needed.name, frozenset(needed.extras)))
        if name != root:
            key = name.lower().replace("_", "-")
            seen[key] = Shipped(key, package.version, licence_of(package))
    return sorted(one for one in seen.values() if one.version)


def _needed(package: Distribution, extras: frozenset[str]) -> list[Requirement]:
    wanted = [Requirement(text) for text in package.requires or []]
    return [one for one in wanted if _applies(one, extras)]


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def licence_of(package: Distribution) -> str:
    """What the package says of its licence: the expression, else the classifiers, else the first line of free text."""
    about = package.metadata
    expressions, texts = about.get_all("License-Expression") or [], about.get_all("License") or []
    classifiers = [line for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    named = [*expressions, *(line.rpartition(" :: ")[2] for line in classifiers)]
    first_lines = [text.strip().splitlines()[0] for text in texts if text.strip()]
    return "; ".join(named or first_lines) or SAID_IN_A_FILE.get(about["Name"], "")


if __name__ == "__main__":
    for one in shipped():
        sys.stdout.write(f"{one.name:<32} {one.version:<14} {one.licence}\n")
