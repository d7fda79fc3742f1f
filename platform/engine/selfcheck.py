"""What the engine checks of itself while it runs: one account at a time, the running margin against the slow reference.

Two independent calculations that disagree mean that one of them is wrong, and nobody knows how many decisions rest on it:
the shard halts and says why.
"""

from engine.state import State
from trading.margining.reference import account_margin
from trading.numbers import plain

SAMPLE_MAX = 200
"""Positions and orders of an account that is checked while everybody waits: about five milliseconds."""


def margin_problem(state: State, account: int) -> str:
    """What is wrong with the account's running margin; empty when the reference says the same."""
    owner = state.accounts.get(account)
    if owner is None or state.config is None:
        return ""
    expected = account_margin(
        list(state.exposures(account)),
        rules=state.terms.rules(owner.group),
        policy=state.config.groups[owner.group].margin,
        digits=state.config.currency_digits[owner.currency],
    )
    found = state.margin_used(account)
    if found == expected:
        return ""
    return f"the margin of account {account} runs at {plain(found)}, the reference says {plain(expected)}"


class Sampler:
    """Goes round the accounts that have margin, one a call. Those with more than SAMPLE_MAX parts are passed over."""

    __slots__ = ("_round",)

    def __init__(self) -> None:
        self._round: list[int] = []

    def next_problem(self, state: State) -> str:
        """The next account's problem; empty when it has none, or nobody has margin."""
        if not self._round:
            self._round = list(state.margins)
        if not self._round:
            return ""
        account = self._round.pop()
        portfolio = state.portfolios.get(account)
        if portfolio is None or len(portfolio.positions) + len(portfolio.orders) > SAMPLE_MAX:
            return ""
        return margin_problem(state, account)
