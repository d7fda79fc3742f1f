"""Ids minted at the doors: UUIDv7, so that rows made one after another sort that way."""

import os
import time
from uuid import UUID


def uuid7(at_ms: int | None = None, random: bytes | None = None) -> UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits."""
    now_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    noise = int.from_bytes(os.urandom(10) if random is None else random, "big")
    value = (now_ms & (1 << 48) - 1) << 80 | noise
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
