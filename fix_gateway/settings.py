"""A session's file under configs/fix, filled in from the environment.

Files hold names like ${FIX_FOLDER} where a machine or a secret comes in. Passwords never enter a file: the file names the
environment variable that holds one. Keys of our own sit beside QuickFIX's, which ignores what it does not know.
"""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

CONFIGURED = Path(__file__).resolve().parents[1] / "configs" / "fix"
LPSIM_PORT_BASE = "15100"
LPSIM_PORTS = 4


class SettingsRefused(ValueError):
    """The session cannot be set up as described: says what is missing, in a sentence."""


@dataclass(frozen=True, slots=True)
class SessionFile:
    """One session as QuickFIX reads it (`path`), and our own keys."""

    path: Path
    folder: Path
    """Holds the session's store; belongs to one process at a time."""
    username: str
    password: str
    keeps_store: bool
    """Sequence numbers outlive the process."""
    account: str
    """Account(1) of our orders, empty for none."""
    update_type: str
    """MDUpdateType(265) to ask prices with."""


def session_file(lp: str, session: str, environment: Mapping[str, str]) -> SessionFile:
    """Fill in configs/fix/{lp}-{session}.cfg and leave the result in the session's own folder."""
    template = CONFIGURED / f"{lp.lower()}-{session}.cfg"
    if not template.exists():
        raise SettingsRefused(f"There is no {template.name} in configs/fix.")
    folder = Path(environment.get("TRIBOOK_DATA", "data")).absolute() / "fix" / f"{lp}-{session}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = _filled_in(template, folder, environment)
    path = folder / "session.cfg"
    path.write_text(text)
    keys = _keys(text)
    password_from = keys.get("PasswordFrom", "")
    if password_from and not environment.get(password_from):
        raise SettingsRefused(f"{template.name} takes its password from {password_from}, which is not set.")
    return SessionFile(
        path=path,
        folder=folder,
        username=keys.get("Username", ""),
        password=environment.get(password_from, "") if password_from else "",
        keeps_store=keys.get("ResetOnLogon", "N") != "Y",
        account=keys.get("Account", ""),
        update_type=keys.get("MDUpdateType", "0"),
    )


def _filled_in(template: Path, folder: Path, environment: Mapping[str, str]) -> str:
    base = int(environment.get("LPSIM_PORT_BASE", LPSIM_PORT_BASE))
    ports = {f"LPSIM_PORT_{offset}": str(base + offset) for offset in range(LPSIM_PORTS)}
    values = {**ports, "LP_HOST": "127.0.0.1", **environment, "FIX_FOLDER": str(folder), "FIX_CONFIGS": str(CONFIGURED)}
    try:
        return Template(template.read_text()).substitute(values)
    except KeyError as missing:
        raise SettingsRefused(f"{template.name} needs {missing.args[0]} in the environment.") from missing


def _keys(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, default_section="nothing")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {key: value for section in parser.sections() for key, value in parser.items(section)}
