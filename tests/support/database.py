"""A database as the house has it: migrated once per test process, then copied for every test that asks for one.

The engine commits, so its tests cannot share a database that is rolled back.
"""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]


def migrated(url: str, name: str) -> str:
    """Make the database `name` on the server at `url`, with every migration applied; its address."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    address = psycopg.conninfo.make_conninfo(url, dbname=name)
    environment = {
        **os.environ,
        "DATABASE_URL": address,
        "TRIBOOK_DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": "broker.settings",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
    }
    made = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity=0"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return address


def copied(template: str, name: str) -> str:
    """A new database `name` that is what the database at `template` was; its address."""
    original = str(psycopg.conninfo.conninfo_to_dict(template)["dbname"])
    with psycopg.connect(psycopg.conninfo.make_conninfo(template, dbname="postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
        )
    return psycopg.conninfo.make_conninfo(template, dbname=name)


def dropped(url: str) -> None:
    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(psycopg.conninfo.make_conninfo(url, dbname="postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
