"""Who a client is, and what that lets it see. Values only."""

from msgspec import Struct

from apps.streaming.limits import interval_us
from trading.accounts import ClientClass


class AccountTerms(Struct, frozen=True):
    """What of an account matters to the stream."""

    group: str
    client_class: ClientClass


class Identity(Struct, frozen=True, kw_only=True):
    """A user as just read from the database, with the trading accounts that are its own."""

    user_id: int
    accounts: dict[int, AccountTerms] = {}
    is_unthrottled: bool = False

    def pricing_account(self, wanted: int | None) -> int | None:
        """The account whose prices are shown: the wanted one, else the lowest; None for staff without an account."""
        if wanted is not None:
            return wanted
        return min(self.accounts, default=None)

    def interval_us(self, account: int | None) -> int:
        terms = self.accounts.get(account) if account is not None else None
        return interval_us(terms.client_class if terms else None, is_unthrottled=self.is_unthrottled)


class Credential(Struct, frozen=True, kw_only=True):
    """What the client showed, to be looked at again and again: a token's version or a browser's session."""

    user_id: int
    token_version: int | None = None
    session_key: str | None = None
