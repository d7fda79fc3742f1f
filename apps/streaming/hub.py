"""The fan-out: one subscription's worth of quotes and account events to every client of this process.

Everything here is plain assignment to clients and returns at once; nothing waits for anybody, so a slow client costs the
others nothing. Per tick a quote is priced once for each group that watches it and spelt once for each step that clients take.
"""

from collections.abc import Iterable

from apps.streaming.client import Client
from apps.streaming.conflation import Shown
from apps.streaming.identity import Identity
from apps.streaming.limits import CLIENTS_MAX, CLIENTS_PER_USER_MAX
from apps.streaming.protocol import Channel
from apps.streaming.resume import AccountEvent, Follower
from trading.configuration import Config
from trading.effective import EffectiveTerms
from trading.pricing import client_quote
from trading.quotes import Quote

DEFAULT_GROUP = "retail"
"""Whose prices are shown to somebody without an account: staff."""


class Hub:
    """Who is connected, who watches what, and the newest of everything."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.config: Config | None = None
        self._terms = EffectiveTerms(None)
        self._quotes: dict[str, Quote] = {}
        self._seqs: dict[str, int] = {}
        self._shown: dict[str, dict[str, Shown]] = {}
        self._watching: dict[str, dict[str, set[Client]]] = {}
        self._following: dict[int, set[Client]] = {}
        self._sends_before = 0
        self._conflated_before = 0

    # ------------------------------------------------------------------------------------------------ what comes in

    def quote(self, quote: Quote) -> None:
        """The newest aggregate of a symbol. Numbered anew here, so that it only rises while this process lives."""
        self._quotes[quote.symbol] = quote
        self._seqs[quote.symbol] = self._seqs.get(quote.symbol, quote.seq - 1) + 1
        self._shown[quote.symbol] = {}
        for group, clients in self._watching.get(quote.symbol, {}).items():
            shown = self._show(quote.symbol, group)
            if shown is not None:
                for client in clients:
                    client.offer(shown)

    def stored_quote(self, quote: Quote) -> None:
        """A quote read from where the newest is kept: taken when it is news."""
        known = self._quotes.get(quote.symbol)
        if known is None or known.at_us < quote.at_us:
            self.quote(quote)

    def events(self, events: Iterable[AccountEvent]) -> None:
        """A committed batch's account events, in order."""
        for event in events:
            clients = self._following.get(event.account)
            if clients:
                text = event.text()
                for client in clients:
                    client.hear(event, text)

    def configure(self, config: Config) -> None:
        """Prices may mean something else now: every newest quote is told again."""
        self.config = config
        self._terms = EffectiveTerms(config)
        for quote in list(self._quotes.values()):
            self.quote(quote)

    def doubt(self) -> None:
        """The subscription was interrupted."""
        for client in self.clients:
            client.doubt()

    # -------------------------------------------------------------------------------------------------- who is there

    def has_room(self, user_id: int | None = None) -> bool:
        if user_id is None:
            return len(self.clients) < CLIENTS_MAX
        own = sum(1 for client in self.clients if client.identity and client.identity.user_id == user_id)
        return own < CLIENTS_PER_USER_MAX

    def add(self, client: Client) -> None:
        self.clients.add(client)

    def remove(self, client: Client) -> None:
        """The client is gone. Removing twice does nothing more."""
        if client in self.clients:
            self.mute(client)
            self.clients.discard(client)
            self._sends_before += client.sends
            self._conflated_before += client.slots.conflated

    def mute(self, client: Client) -> None:
        """Tell it nothing more. It still counts as connected until its connection is really gone."""
        for symbol in client.slots.symbols:
            self.unwatch(client, symbol)
        for account, channel in list(client.followers):
            self.unfollow(client, account, channel)

    @property
    def sends(self) -> int:
        return self._sends_before + sum(client.sends for client in self.clients)

    @property
    def conflated(self) -> int:
        return self._conflated_before + sum(client.slots.conflated for client in self.clients)

    # ---------------------------------------------------------------------------------------------- subscriptions

    def recognise(self, client: Client, identity: Identity) -> None:
        """The client is this user, with these terms: at login, and whenever they are read again."""
        client.identity = identity
        account = identity.pricing_account(client.pricing_account)
        client.slots.change_pace(identity.interval_us(account))
        terms = identity.accounts.get(account) if account is not None else None
        group = terms.group if terms else DEFAULT_GROUP
        if group != client.group:
            self._move(client, group)

    def knows(self, symbol: str) -> bool:
        return self.config is not None and symbol in self.config.instruments

    def watch(self, client: Client, symbol: str, *, asked_us: int, from_newest: bool) -> None:
        """Begin to show a symbol: from the newest quote, or from the next one."""
        client.slots.subscribe(symbol, asked_us)
        self._watching.setdefault(symbol, {}).setdefault(client.group, set()).add(client)
        shown = self._show(symbol, client.group) if from_newest else None
        if shown is not None:
            client.offer(shown)

    def unwatch(self, client: Client, symbol: str) -> None:
        client.slots.unsubscribe(symbol)
        self._discard_watch(symbol, client)

    def follow(self, client: Client, follower: Follower) -> None:
        client.followers[follower.account, follower.channel] = follower
        self._following.setdefault(follower.account, set()).add(client)
        client.wake()

    def unfollow(self, client: Client, account: int, channel: Channel) -> None:
        client.followers.pop((account, channel), None)
        if not any(followed == account for followed, _ in client.followers):
            self._discard_follow(account, client)

    # -------------------------------------------------------------------------------------------------------- helpers

    def _show(self, symbol: str, group_name: str) -> Shown | None:
        shown = self._shown.get(symbol, {}).get(group_name)
        return shown or self._price(symbol, group_name)

    def _price(self, symbol: str, group_name: str) -> Shown | None:
        quote = self._quotes.get(symbol)
        group = self.config.groups.get(group_name) if self.config is not None else None
        if quote is None or group is None:
            return None
        terms = self._terms.of(group_name, symbol)
        if terms is None:
            return None
        shown = Shown(client_quote(quote, group, terms), self._seqs[symbol])
        self._shown[symbol][group_name] = shown
        return shown

    def _move(self, client: Client, group: str) -> None:
        symbols = client.slots.symbols
        for symbol in symbols:
            self._discard_watch(symbol, client)
        client.group = group
        client.slots.forget_sent()
        for symbol in symbols:
            self._watching.setdefault(symbol, {}).setdefault(group, set()).add(client)
            shown = self._show(symbol, group)
            if shown is not None:
                client.offer(shown)

    def _discard_watch(self, symbol: str, client: Client) -> None:
        groups = self._watching.get(symbol, {})
        groups.get(client.group, set()).discard(client)
        if not groups.get(client.group, True):
            del groups[client.group]

    def _discard_follow(self, account: int, client: Client) -> None:
        clients = self._following.get(account, set())
        clients.discard(client)
        if not clients:
            self._following.pop(account, None)
