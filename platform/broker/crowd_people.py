"""Who is in the crowd: demo clients of every group, currency, class and leverage, told apart by their nerve.

The careful have much and risk little; the reckless have little and put most of it into every trade, so that some of them are
called for margin and stopped out before the day is over. Same seed, same people. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from random import Random

from trading.accounts import ClientClass
from trading.numbers import round_half_up

FIRST_ACCOUNT = 900_001
"""Far above the numbers that people get when they open a demo account."""
IN_USD = {
    "USD": Decimal(1),
    "EUR": Decimal("1.2"),
    "GBP": Decimal("1.4"),
    "CHF": Decimal("1.1"),
    "AUD": Decimal("0.8"),
    "NZD": Decimal("0.7"),
    "JPY": Decimal("0.008"),
    "XAU": Decimal(1500),
}
"""Roughly, for sizing deposits and trades alone. Others count like a dollar."""
CURRENCIES = ("USD", "EUR", "GBP", "CHF", "JPY", "AUD")
CLASSES = (
    ClientClass.RETAIL,
    ClientClass.RETAIL,
    ClientClass.PROFESSIONAL,
    ClientClass.RETAIL,
    ClientClass.ELIGIBLE_COUNTERPARTY,
)
LEVERAGES = (30, 100, 20, 200, 50, 10, 500)


class Nerve(StrEnum):
    CAREFUL = "careful"
    BOLD = "bold"
    RECKLESS = "reckless"


NERVES = (*(Nerve.CAREFUL,) * 5, *(Nerve.BOLD,) * 3, *(Nerve.RECKLESS,) * 2)
DEPOSITS_USD = {Nerve.CAREFUL: (20_000, 100_000), Nerve.BOLD: (2_000, 10_000), Nerve.RECKLESS: (200, 1_500)}


@dataclass(frozen=True, slots=True)
class Person:
    """A client of the crowd and the account it trades on."""

    account: int
    group: str
    currency: str
    digits: int
    """Decimals of the account's currency."""
    leverage: int
    client_class: ClientClass
    nerve: Nerve
    deposit: Decimal


def people(
    count: int, *, seed: int, leverages: Mapping[str, int], digits: Mapping[str, int], first: int = FIRST_ACCOUNT
) -> tuple[Person, ...]:
    """`count` people. `leverages` are the groups with the most that each allows, `digits` the currencies' decimals."""
    chance = Random(f"{seed}/people")
    groups = sorted(leverages)
    currencies = [currency for currency in CURRENCIES if currency in digits]
    return tuple(_person(first + place, place, chance, groups, currencies, leverages, digits) for place in range(count))


def _person(
    account: int,
    place: int,
    chance: Random,
    groups: list[str],
    currencies: list[str],
    leverages: Mapping[str, int],
    digits: Mapping[str, int],
) -> Person:
    """Every kind in turn, so that even a small crowd has all of them; the seed decides how much money each brings."""
    group, currency = groups[place % len(groups)], currencies[place % len(currencies)]
    nerve = NERVES[place % len(NERVES)]
    usd = Decimal(chance.randint(*DEPOSITS_USD[nerve]))
    return Person(
        account=account,
        group=group,
        currency=currency,
        digits=digits[currency],
        leverage=leverages[group]
        if nerve is Nerve.RECKLESS
        else min(LEVERAGES[place % len(LEVERAGES)], leverages[group]),
        client_class=CLASSES[place % len(CLASSES)],
        nerve=nerve,
        deposit=round_half_up(usd / IN_USD[currency], digits[currency]),
    )
