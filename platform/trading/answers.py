"""What a door is told about its command, after the commit and never before."""

from msgspec import Struct

from trading.orders import Order


class Answer(Struct, frozen=True, kw_only=True):
    """The engine's answer to one command. An order that a provider works on is answered twice: working, then final."""

    command_id: str
    refusal: str = ""
    """A `Refusal` code, empty when it was done."""
    detail: str = ""
    replayed: bool = False
    """The key was known with the same body: `reference` names what it made then; read its present state from the database."""
    reference: int = 0
    order: Order | None = None
    final: bool = True
    """Nothing more will be said about this command."""
