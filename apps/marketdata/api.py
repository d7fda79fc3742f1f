"""Symbols and quotes over REST."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import account_row, accounts_of, caller_of, owned_account
from apps.accounts.models import Account
from apps.doors.connections import clock
from apps.doors.parsing import Fields
from apps.doors.problems import Problem
from apps.doors.schema import ACCOUNT_PARAMETER, PROBLEMS, QUOTES, SYMBOL_SHAPE, SYMBOLS, WHOSE_TERMS, query
from apps.doors.views import DoorView
from apps.marketdata.queries import newest_quotes
from apps.published import current_config, effective_terms
from trading.charges.fees import FeeSchedule
from trading.configuration import Config, Group
from trading.guarantee import GuaranteeTerms
from trading.instruments import Instrument
from trading.numbers import plain, point
from trading.pricing import client_quote, is_fresh
from trading.quotes import Quote
from trading.refusals import Refusal
from trading.views import rfc3339

SYMBOLS_MAX = 200


class SymbolsView(DoorView):
    """Everything that can be traded: on the symbols' own terms, or as the group of the named account has them."""

    permission_classes = (AllowAny,)

    @extend_schema(operation_id="list_symbols", parameters=[WHOSE_TERMS], responses={200: SYMBOLS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        config = current_config()
        group = _group_named(request, config)
        return Response(
            {"data": [symbol_shape(_terms(config, group, symbol)) for symbol in sorted(config.instruments)]}
        )


class SymbolView(DoorView):
    """One symbol's terms: its own, or as the group of the named account has them."""

    permission_classes = (AllowAny,)

    @extend_schema(operation_id="get_symbol", parameters=[WHOSE_TERMS], responses={200: SYMBOL_SHAPE, **PROBLEMS})
    def get(self, request: Request, symbol: str) -> Response:
        config = current_config()
        if symbol not in config.instruments:
            raise Problem(Refusal.UNKNOWN_SYMBOL)
        return Response(symbol_shape(_terms(config, _group_named(request, config), symbol)))


class QuotesView(DoorView):
    """The newest prices as the caller's group sees and is filled at."""

    @extend_schema(
        operation_id="list_quotes",
        parameters=[
            query("symbols", "separated by commas; all without it"),
            ACCOUNT_PARAMETER,
        ],
        responses={200: QUOTES, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        config = current_config()
        fields = Fields(request.query_params, known=("symbols", "account"))
        wanted = fields.text("symbols", length_max=4000, default=",".join(sorted(config.instruments))).split(",")
        if len(wanted) > SYMBOLS_MAX:
            fields.error("symbols", f"At most {SYMBOLS_MAX}.")
        group = _group(request, fields, config)
        fields.done()
        if any(symbol not in config.instruments for symbol in wanted):
            raise Problem(Refusal.UNKNOWN_SYMBOL)
        quotes = newest_quotes(wanted)
        now_us = clock()()
        shown = [quote_shape(_terms(config, group, symbol), quotes.get(symbol), group, now_us) for symbol in wanted]
        if len(shown) == 1 and shown[0]["error"]:
            raise Problem(Refusal.NO_QUOTES, retry_after_ms=1000)
        return Response({"data": shown})


def _group(request: Request, fields: Fields, config: Config) -> Group:
    """The group of the named account, else of the caller's first one. Without an account there is nothing to deal on."""
    user = caller_of(request)
    if fields.has("account"):
        account = fields.whole("account")
        fields.done()
        return config.groups[account_row(owned_account(user, account).account).group]
    row = Account.objects.filter(id__in=accounts_of(user)).order_by("id").first()
    if row is None:
        raise Problem(Refusal.UNKNOWN_ACCOUNT)
    return config.groups[row.group]


def _group_named(request: Request, config: Config) -> Group | None:
    """The group of the caller's account that `account` names; None for the symbols' own terms."""
    fields = Fields(request.query_params, known=("account",))
    if not fields.has("account"):
        fields.done()
        return None
    account = fields.whole("account")
    fields.done()
    if not request.user.is_authenticated:
        raise Problem(Refusal.NOT_AUTHENTICATED)
    return config.groups[account_row(owned_account(caller_of(request), account).account).group]


def _terms(config: Config, group: Group | None, symbol: str) -> Instrument:
    """The symbol as the group has it, or its own terms."""
    if group is None:
        return config.instruments[symbol]
    return effective_terms(config).of(group.name, symbol) or config.instruments[symbol]


def symbol_shape(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.symbol,
        "description": instrument.description,
        "asset_class": instrument.asset_class.value,
        "base": instrument.base,
        "quote": instrument.quote,
        "digits": instrument.digits,
        "point": plain(point(instrument.digits)),
        "contract_size": plain(instrument.contract_size),
        "volume_min": plain(instrument.volume_min),
        "volume_max": plain(instrument.volume_max),
        "volume_step": plain(instrument.volume_step),
        "trade_mode": instrument.trade_mode.value,
        "stops_level": instrument.stops_level,
        "freeze_level": instrument.freeze_level,
        "stop_trigger": instrument.stop_trigger.value,
        "margin_mode": instrument.margin.mode.value,
        "swap": {
            "mode": instrument.swap.mode.value,
            "long": plain(instrument.swap.long),
            "short": plain(instrument.swap.short),
            "multipliers": [plain(one) for one in instrument.swap.multipliers],
        },
        "guarantee": _guarantee_shape(instrument.guarantee),
        "fees": _fees_shape(instrument.fees),
        "is_cash": instrument.is_cash,
        "expires_at": rfc3339(instrument.expires_us) if instrument.expires_us else None,
    }


def _guarantee_shape(terms: GuaranteeTerms | None) -> dict[str, Any] | None:
    if terms is None:
        return None
    return {"fee_points": plain(terms.fee_points), "distance_min_points": terms.distance_min_points}


def _fees_shape(schedule: FeeSchedule | None) -> list[dict[str, str]] | None:
    """Per cent of a deal's value, by turnover in USD."""
    if schedule is None:
        return None
    return [
        {"at_least": plain(tier.at_least), "maker": plain(tier.maker), "taker": plain(tier.taker)}
        for tier in schedule.tiers
    ]


def quote_shape(instrument: Instrument, quote: Quote | None, group: Group, now_us: int) -> dict[str, Any]:
    """Bid and ask as the group sees them, or `error: no_quotes`: a stale price is not shown as if it could be dealt on.
    `instrument` is the symbol as the group has it."""
    nothing = {"symbol": instrument.symbol, "bid": None, "ask": None, "at": None, "age_ms": None}
    if quote is None:
        return {**nothing, "error": Refusal.NO_QUOTES.value}
    aged = {"at": rfc3339(quote.at_us), "age_ms": max(0, now_us - quote.at_us) // 1000}
    if not is_fresh(quote, instrument, now_us):
        return {**nothing, **aged, "error": Refusal.NO_QUOTES.value}
    seen = client_quote(quote, group, instrument)
    return {"symbol": instrument.symbol, "bid": plain(seen.bid), "ask": plain(seen.ask), **aged, "error": None}
