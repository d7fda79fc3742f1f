"""JSON in and out for everything that crosses a process border. Decimals travel as strings; unknown shapes are refused."""

from typing import TypeVar

import msgspec

from trading.answers import Answer
from trading.commands import AnyCommand, Command
from trading.configuration import Config
from trading.decisions import Decision
from trading.liquidity import ExecutionReport
from trading.quotes import Quote

T = TypeVar("T")

_encoder = msgspec.json.Encoder(decimal_format="string")
_commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_answers = msgspec.json.Decoder(Answer)
_quotes = msgspec.json.Decoder(Quote)
_configs = msgspec.json.Decoder(Config)
_decisions = msgspec.json.Decoder(Decision)
_reports = msgspec.json.Decoder(ExecutionReport)

DecodeError = msgspec.DecodeError
"""Raised by every decode function when the bytes are not what they should be."""


def encode(value: object) -> bytes:
    """One JSON document in UTF-8."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """The `kind` that `data` spells. For message kinds without a decoder of their own below."""
    return msgspec.json.decode(data, type=kind)


def decode_command(data: bytes | str) -> AnyCommand:
    return _commands.decode(data)


def decode_answer(data: bytes | str) -> Answer:
    return _answers.decode(data)


def decode_quote(data: bytes | str) -> Quote:
    return _quotes.decode(data)


def decode_config(data: bytes | str) -> Config:
    return _configs.decode(data)


def decode_decision(data: bytes | str) -> Decision:
    return _decisions.decode(data)


def decode_report(data: bytes | str) -> ExecutionReport:
    return _reports.decode(data)


__all__ = [
    "Command",
    "DecodeError",
    "decode",
    "decode_answer",
    "decode_command",
    "decode_config",
    "decode_decision",
    "decode_quote",
    "decode_report",
    "encode",
]
