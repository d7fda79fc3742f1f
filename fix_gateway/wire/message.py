"""Raw FIX text taken apart once, and messages put together as plain fields.

Text arrives with SOH or, in logs and tests, with pipes between its fields. Order and repetition are kept, so groups can
be read without a dictionary. Whatever leaves this module as text is free of control characters.
"""

from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from trading.numbers import NumberRefused, parse_decimal

SOH = "\x01"
TEXT_MAX = 500
RAW_MAX = 16_000
FIELDS_MAX = 10_000
TAG_DIGITS_MAX = 6

Field = tuple[int, str]


class Message(Struct, frozen=True):
    """One message: its fields in the order received, and the first value of each tag."""

    fields: tuple[Field, ...]
    first: dict[int, str]

    def get(self, tag: int) -> str:
        """The tag's first value, empty when it is missing."""
        return self.first.get(tag, "")

    @property
    def msg_type(self) -> str:
        """MsgType(35)."""
        return self.get(35)


class Repeating(Struct, frozen=True, kw_only=True):
    """A repeating group to send: the tag of its count, and each entry's fields, delimiter first."""

    count_tag: int
    entries: tuple[tuple[Field, ...], ...]


class Outgoing(Struct, frozen=True, kw_only=True):
    """A message to send, without the header and trailer that the session writes."""

    msg_type: str
    fields: tuple[Field, ...]
    groups: tuple[Repeating, ...] = ()


def parse(raw: str) -> Message:
    """Take `raw` apart. What is not `tag=value` is left out; more than FIELDS_MAX fields are not looked at."""
    fields = tuple(_fields(raw))
    first: dict[int, str] = {}
    for tag, value in fields:
        first.setdefault(tag, value)
    return Message(fields, first)


def _fields(raw: str) -> Iterator[Field]:
    separator = SOH if SOH in raw else "|"
    for part in raw.split(separator, FIELDS_MAX)[:FIELDS_MAX]:
        tag, equals, value = part.partition("=")
        if equals and len(tag) <= TAG_DIGITS_MAX and tag.isascii() and tag.isdigit():
            yield int(tag), value


def group(message: Message, *, count_tag: int, delimiter: int) -> list[dict[int, str]] | None:
    """The entries of one repeating group, each a dict; None when there are not as many as announced.

    What follows the group's last field belongs to its last entry: only a dictionary could tell, and no reader cares.
    """
    entries: list[dict[int, str]] = []
    inside = False
    for tag, value in message.fields:
        if tag == count_tag:
            inside = True
        elif inside and tag == delimiter:
            entries.append({tag: value})
        elif inside and entries:
            entries[-1].setdefault(tag, value)
    return entries if str(len(entries)) == (message.get(count_tag) or "0") else None


def number(text: str) -> Decimal | None:
    """The plain decimal that `text` spells; None for exponents, NaN and everything else."""
    try:
        return parse_decimal(text)
    except NumberRefused:
        return None


def clean(text: str, limit: int = TEXT_MAX) -> str:
    """`text` as people, databases and FIX can take it: printable, bounded; anything else shows as a question mark."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def readable(raw: str) -> str:
    """A whole message for keeping: pipes between its fields, printable, bounded."""
    return clean(raw.replace(SOH, "|"), RAW_MAX)


def plain_quantity(value: Decimal) -> str:
    """A quantity or price as FIX shows it: no exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
