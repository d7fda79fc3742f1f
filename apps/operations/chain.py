"""The audit entries as a chain: each carries a hash of itself and of the one before it, so that none can be changed, taken out
or put between without a trace.

PostgreSQL links an entry as it is stored, whoever stores it (`migrations/0008_audit_chain`). Here the chain is calculated a
second time, from the columns alone and by none of the database's functions. The chain cannot show that its newest entries are
gone, or that all of it was calculated anew: therefore its head is signed with a key that the database does not have, and what
was signed is kept in a file outside of it (`Seals`). Whoever copies that file elsewhere can prove the trail up to there.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import psycopg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

Connection = psycopg.Connection[Any]

AT_ONCE = 5000
LAST_BYTES = 4096
"""More than a seal's line has."""
FOLDER = "audit"
"""In the data folder: the auditor's key and seals."""
KEY, PUBLIC_KEY, SEALS = "key.pem", "public.pem", "seals.jsonl"

ENTRIES = """
SELECT number, hash, jsonb_build_array(number, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor, action,
    request_id, address, detail)::text FROM operations_auditentry WHERE number > %s ORDER BY number LIMIT %s
"""
ENTRY = "SELECT hash FROM operations_auditentry WHERE number = %s"


class Head(NamedTuple):
    """The newest entry that is known: its number, and the hash over it and everything before."""

    number: int
    hash: str


NOTHING = Head(0, "0" * 64)


def follow(connection: Connection, head: Head = NOTHING) -> tuple[Head, list[str]]:
    """The chain from `head` on: where it ends now, and every entry in it that is wrong, the first one first."""
    found = []
    if head != NOTHING:
        stored = _hash_of(connection, head.number)
        if stored != head.hash:
            found.append(
                f"I13: audit entry {head.number} was there and is {'gone' if stored is None else 'another one'}"
            )
    while rows := connection.execute(ENTRIES, (head.number, AT_ONCE)).fetchall():
        for number, stored, canonical in rows:
            if number != head.number + 1:
                found.append(f"I13: audit entry {head.number + 1} is missing, the next is {number}")
            elif stored != hashlib.sha256((head.hash + canonical).encode()).hexdigest():
                found.append(f"I13: audit entry {number} is not what was recorded after entry {head.number}")
            head = Head(number, stored)
    return head, found


class Seal(msgspec.Struct, frozen=True):
    """That the chain ended so at that time. `signature`: Ed25519 over the rest, in base64."""

    number: int
    hash: str
    at: str
    signature: str = ""

    def text(self) -> bytes:
        return f"tribook audit entry {self.number} {self.hash} sealed at {self.at}".encode()


class SealError(Exception):
    """The seals cannot be read as what they should be."""


class Seals:
    """Signed heads of the chain in a file, a line each, and the key in a file beside it. One process writes."""

    def __init__(self, folder: Path, *, public_key: Path | None = None) -> None:
        self._file = folder / SEALS
        self._folder = folder
        self._public_key = public_key or folder / PUBLIC_KEY

    def all(self) -> Iterator[Seal]:
        """Raises SealError at a line that is no seal. A last line that was never finished is none."""
        if self._file.exists():
            for place, line in enumerate(self._file.read_bytes().split(b"\n")[:-1], start=1):
                yield _seal(line, f"line {place} of {self._file}")

    def last(self) -> Seal | None:
        if not self._file.exists():
            return None
        with self._file.open("rb") as file:
            line, _ = _end_of(file)
        return None if line is None else _seal(line, f"the last line of {self._file}")

    def add(self, head: Head, at: str) -> Seal:
        """Sign this head and keep it; on disk when this returns. Makes the key where nothing was sealed yet.

        Raises SealError or OSError; nothing is sealed then, and the next seal stands for what this one would have.
        """
        seal = Seal(head.number, head.hash, at)
        signature = base64.b64encode(self._signing_key().sign(seal.text())).decode()
        seal = msgspec.structs.replace(seal, signature=signature)
        with os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            _, finished = _end_of(file)
            file.seek(finished)
            file.truncate()
            file.write(msgspec.json.encode(seal) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return seal

    def contradicted(self, connection: Connection) -> list[str]:
        """The newest seal against the stored chain. It stands for all before it, which its hash covers."""
        try:
            last = self.last()
            return self._contradictions(connection, [last] if last else [])
        except SealError as error:
            return [f"I13: {error}"]

    def all_contradicted(self, connection: Connection) -> list[str]:
        try:
            return self._contradictions(connection, list(self.all()))
        except SealError as error:
            return [f"I13: {error}"]

    def _contradictions(self, connection: Connection, seals: list[Seal]) -> list[str]:
        found: list[str] = []
        if not seals:
            return found
        key = self._verifying_key()
        for seal in seals:
            about = f"I13: audit entry {seal.number}, sealed at {seal.at},"
            stored = _hash_of(connection, seal.number)
            if not _is_signed(key, seal):
                found.append(f"{about} was not signed with this house's key")
            elif stored is None:
                found.append(f"{about} is gone")
            elif stored != seal.hash:
                found.append(f"{about} is another one now")
        return found

    def _verifying_key(self) -> Ed25519PublicKey:
        try:
            key = load_pem_public_key(self._public_key.read_bytes())
        except (OSError, ValueError) as error:
            raise SealError(f"there are seals, and their key cannot be read: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SealError(f"{self._public_key} is no Ed25519 key")
        return key

    def _signing_key(self) -> Ed25519PrivateKey:
        """Made when there is neither it nor its public half. It is whole or not there, also when this is killed."""
        path = self._folder / KEY
        if not path.exists():
            if self._public_key.exists():
                raise SealError(f"the key that seals audit entries is gone: {path}")
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            made = Ed25519PrivateKey.generate()
            _write_once(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise SealError(f"{path} is no Ed25519 key")
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write_once(self._public_key, public, mode=0o644)
        if self._public_key.read_bytes() != public:
            raise SealError(f"{self._public_key} is not the public half of {path}")
        return key


def _end_of(file: BinaryIO) -> tuple[bytes | None, int]:
    """The last line that was finished, None where there is none, and how long the file is up to its end."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - LAST_BYTES, 0))
    finished, newline, unfinished = file.read().rpartition(b"\n")
    return finished.rpartition(b"\n")[2] if newline else None, end - len(unfinished)


def _seal(line: bytes, where: str) -> Seal:
    try:
        return msgspec.json.decode(line, type=Seal)
    except msgspec.DecodeError as error:
        raise SealError(f"{where} is no seal: {error}") from None


def _is_signed(key: Ed25519PublicKey, seal: Seal) -> bool:
    try:
        key.verify(base64.b64decode(seal.signature, validate=True), seal.text())
    except (InvalidSignature, ValueError):
        return False
    return True


def _hash_of(connection: Connection, number: int) -> str | None:
    row = connection.execute(ENTRY, (number,)).fetchone()
    return None if row is None else str(row[0])


def _write_once(path: Path, content: bytes, *, mode: int) -> None:
    """Nothing when the file is there already."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
