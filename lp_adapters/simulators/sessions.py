"""A simulated provider's session file under configs/fix, filled in from the environment, as QuickFIX reads it."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

CONFIGURED = Path(__file__).resolve().parents[2] / "configs" / "fix"
PORT_BASE = "15100"
PORTS = 4


class SettingsRefused(ValueError):
    """A provider cannot be set up as described: says what is missing, in a sentence."""


@dataclass(frozen=True, slots=True)
class SessionText:
    """Both sessions of a provider, and who may log on to them."""

    text: str
    username: str
    password: str


def data_folder(environment: Mapping[str, str]) -> Path:
    """Where all simulated providers keep their stores and journals."""
    return Path(environment.get("TRIBOOK_DATA", "data")).absolute() / "fix" / "lpsim"


def session_text(lp: str, folder: Path, environment: Mapping[str, str]) -> SessionText:
    """Fill in configs/fix/lpsim-{lp}.cfg. Raises SettingsRefused."""
    template = CONFIGURED / f"lpsim-{lp.lower()}.cfg"
    try:
        text = Template(template.read_text()).substitute(_values(folder, environment))
    except OSError as error:
        raise SettingsRefused(f"{template} cannot be read: {error.strerror}.") from error
    except KeyError as missing:
        raise SettingsRefused(f"{template.name} needs {missing.args[0]} in the environment.") from missing
    ours = _default_section(text)
    password = environment.get(ours.get("PasswordFrom", ""), "")
    if not password:
        raise SettingsRefused(f"{template.name} takes its password from {ours.get('PasswordFrom')}, which is not set.")
    return SessionText(text=text, username=ours.get("Username", ""), password=password)


def _values(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    given = environment.get("LPSIM_PORT_BASE", PORT_BASE)
    if not (given.isascii() and given.isdigit() and 0 < int(given) <= 65_536 - PORTS):
        raise SettingsRefused(f"LPSIM_PORT_BASE is not a port number: {given!r}.")
    ports = {f"LPSIM_PORT_{offset}": str(int(given) + offset) for offset in range(PORTS)}
    return {**environment, **ports, "FIX_FOLDER": str(folder), "FIX_CONFIGS": str(CONFIGURED)}


def _default_section(text: str) -> dict[str, str]:
    """The keys before the first session; the sessions share one name, so the rest is not for this parser."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, default_section="nothing")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text.partition("[SESSION]")[0])
    return dict(parser.items("DEFAULT"))
