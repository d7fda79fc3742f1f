#!/usr/bin/env python3
"""Django's command line, with `platform/` on the import path (it is a folder of packages, never a package itself)."""

import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    root = Path(__file__).resolve().parent
    folders = [str(root), str(root / "platform")]
    if sys.argv[1:2] == ["engine"]:
        become_engine(folders, sys.argv[2:])
    sys.path[:0] = folders
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def become_engine(folders: list[str], arguments: list[str]) -> NoReturn:
    """`manage.py engine [--standby] [--shard N] [--name X]`: the engine's own program takes this process's place, without
    Django in it."""
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, inherited] if inherited else folders)
    os.execv(sys.executable, [sys.executable, "-m", "engine", *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
