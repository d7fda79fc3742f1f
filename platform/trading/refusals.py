"""Every refusal the platform can answer with: one registry for REST, FIX and MT-style clients.

A refusal is a value, not an exception. Its code is stable for ever; title and remedy are what a person reads.
"""

from enum import StrEnum

from msgspec import Struct


class Refusal(StrEnum):
    # What is wrong with the request itself.
    INVALID_REQUEST = "invalid_request"
    MALFORMED_JSON = "malformed_json"
    INVALID_VOLUME = "invalid_volume"
    INVALID_PRICE = "invalid_price"
    INVALID_STOPS = "invalid_stops"
    INVALID_EXPIRATION = "invalid_expiration"
    INVALID_FILL = "invalid_fill"
    INVALID_AMOUNT = "invalid_amount"
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_CURRENCY = "unknown_currency"
    UNKNOWN_GROUP = "unknown_group"
    ACCOUNT_EXISTS = "account_exists"
    # What is wrong with saying it again.
    CLIENT_ORDER_ID_REUSED = "client_order_id_reused"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_KEY_REQUIRED = "idempotency_key_required"
    REQUEST_IN_PROGRESS = "request_in_progress"
    COMMAND_EXPIRED = "command_expired"
    # What the account, symbol or market does not allow now.
    TRADE_DISABLED = "trade_disabled"
    CLOSE_ONLY = "close_only"
    MARKET_CLOSED = "market_closed"
    VOLUME_LIMIT = "volume_limit"
    NO_QUOTES = "no_quotes"
    PRICE_CHANGED = "price_changed"
    NO_CHANGES = "no_changes"
    ORDER_LOCKED = "order_locked"
    INSUFFICIENT_MARGIN = "insufficient_margin"
    DUPLICATE_ORDER = "duplicate_order"
    PRICE_COLLAR = "price_collar"
    VALUE_LIMIT = "value_limit"
    POSITION_LIMIT = "position_limit"
    ORDER_LIMIT = "order_limit"
    DAY_TRADE_LIMIT = "day_trade_limit"
    LONG_ONLY = "long_only"
    SHORT_ONLY = "short_only"
    PRODUCT_BANNED = "product_banned"
    BONUS_BANNED = "bonus_banned"
    FROZEN = "frozen"
    NO_GUARANTEE = "no_guarantee"
    WORSE_GUARANTEE = "worse_guarantee"
    FUNDS_NOT_WITHDRAWABLE = "funds_not_withdrawable"
    NO_CONNECTION = "no_connection"
    REJECTED_BY_LP = "rejected_by_lp"
    # Positions and orders.
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_CHANGED = "order_changed"
    POSITION_CLOSED = "position_closed"
    CLOSE_VOLUME_TOO_LARGE = "close_volume_too_large"
    CLOSE_ORDER_EXISTS = "close_order_exists"
    INVALID_CLOSE_BY = "invalid_close_by"
    WITHDRAWAL_NOT_FOUND = "withdrawal_not_found"
    DEAL_NOT_FOUND = "deal_not_found"
    DEAL_NOT_CORRECTABLE = "deal_not_correctable"
    SECOND_PERSON_REQUIRED = "second_person_required"
    # Doors.
    NOT_AUTHENTICATED = "not_authenticated"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TOO_LARGE = "request_too_large"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    TIMEOUT_UNKNOWN = "timeout_unknown"
    INTERNAL = "internal"


class RefusalTerms(Struct, frozen=True, kw_only=True):
    """How one refusal is told over each door."""

    http: int
    mt: int
    """MetaTrader trade return code."""
    fix: int | None
    """OrdRejReason(103); None where no order is concerned."""
    title: str
    remedy: str
    retryable: bool = False


def _terms(http: int, mt: int, fix: int | None, title: str, remedy: str, *, retryable: bool = False) -> RefusalTerms:
    return RefusalTerms(http=http, mt=mt, fix=fix, title=title, remedy=remedy, retryable=retryable)


R = Refusal
REGISTRY: dict[Refusal, RefusalTerms] = {
    R.INVALID_REQUEST: _terms(422, 10013, 11, "The request is not valid.", "Correct the fields listed under errors."),
    R.MALFORMED_JSON: _terms(400, 10013, 11, "The body is not valid JSON.", "Send one JSON object in UTF-8."),
    R.INVALID_VOLUME: _terms(
        422,
        10014,
        13,
        "The volume is not allowed.",
        "Use a volume between the symbol's minimum and maximum, on its step.",
    ),
    R.INVALID_PRICE: _terms(422, 10015, 99, "The price is not allowed.", "Use a positive price on the symbol's grid."),
    R.INVALID_STOPS: _terms(
        422, 10016, 99, "The stop loss or take profit is not allowed.", "Put them on the right side of the price."
    ),
    R.INVALID_EXPIRATION: _terms(
        422, 10022, 4, "The expiry is not allowed.", "Use a time in the future, with time_in_force gtd only."
    ),
    R.INVALID_FILL: _terms(422, 10030, 11, "The time in force does not fit the order.", "Use another time_in_force."),
    R.INVALID_AMOUNT: _terms(
        422, 10013, 13, "The amount is not allowed.", "Use a positive amount with the currency's decimals."
    ),
    R.UNKNOWN_SYMBOL: _terms(404, 10013, 1, "There is no such symbol.", "List the symbols and use one of them."),
    R.UNKNOWN_ACCOUNT: _terms(404, 10013, 15, "There is no such account.", "List your accounts and use one of them."),
    R.UNKNOWN_CURRENCY: _terms(422, 10013, 99, "The currency is not offered.", "Use one of the offered currencies."),
    R.UNKNOWN_GROUP: _terms(422, 10013, 99, "There is no such group.", "Use one of the configured groups."),
    R.ACCOUNT_EXISTS: _terms(409, 10013, 99, "The account exists already.", "Use the account that is there."),
    R.CLIENT_ORDER_ID_REUSED: _terms(
        409,
        10006,
        6,
        "This client_order_id belongs to a different order.",
        "Use a new client_order_id for a new order.",
    ),
    R.IDEMPOTENCY_KEY_REUSED: _terms(
        422, 10006, 6, "This Idempotency-Key belongs to a different request.", "Use a new key for a new request."
    ),
    R.IDEMPOTENCY_KEY_REQUIRED: _terms(
        400, 10013, 99, "An Idempotency-Key header is required.", "Send a new key with each new movement of money."
    ),
    R.REQUEST_IN_PROGRESS: _terms(
        409, 10028, 99, "The same request is still being worked on.", "Ask again in a moment.", retryable=True
    ),
    R.COMMAND_EXPIRED: _terms(
        422, 10012, 99, "The request came too late to be dealt.", "Look at the price again, then send a new order."
    ),
    R.TRADE_DISABLED: _terms(422, 10017, 0, "Trading is disabled.", "Ask the broker about the account or the symbol."),
    R.CLOSE_ONLY: _terms(422, 10044, 0, "Only closing is allowed.", "Close positions; new ones are not accepted now."),
    R.MARKET_CLOSED: _terms(
        422, 10018, 2, "The market is halted.", "Wait until the symbol trades again.", retryable=True
    ),
    R.VOLUME_LIMIT: _terms(422, 10034, 3, "The volume goes beyond a limit.", "Use a smaller volume."),
    R.NO_QUOTES: _terms(
        503, 10021, 2, "There is no fresh price for the symbol.", "Wait for the next quote.", retryable=True
    ),
    R.PRICE_CHANGED: _terms(
        409, 10020, 99, "The price has moved too far.", "Look at the price again and send a new order.", retryable=True
    ),
    R.NO_CHANGES: _terms(200, 10025, None, "Nothing would change.", "Send what you want to be different."),
    R.ORDER_LOCKED: _terms(409, 10028, 99, "The order is being dealt.", "Wait for its outcome.", retryable=True),
    R.INSUFFICIENT_MARGIN: _terms(
        422, 10019, 3, "The free margin is too small for this order.", "Use a smaller volume, or deposit."
    ),
    R.DUPLICATE_ORDER: _terms(
        409, 10006, 6, "The same order was just accepted.", "Look at your orders; send it again after the window."
    ),
    R.PRICE_COLLAR: _terms(
        422, 10015, 99, "The price is too far from the market.", "Use a price nearer to the market."
    ),
    R.VALUE_LIMIT: _terms(422, 10014, 3, "The order is worth more than is allowed.", "Use a smaller volume."),
    R.POSITION_LIMIT: _terms(422, 10040, 3, "The account has as many positions as it may.", "Close one first."),
    R.ORDER_LIMIT: _terms(422, 10033, 3, "The account has as many pending orders as it may.", "Cancel one first."),
    R.DAY_TRADE_LIMIT: _terms(
        422, 10017, 0, "The account has used up its day trades.", "Wait for the next business day, or deposit."
    ),
    R.LONG_ONLY: _terms(422, 10042, 0, "Only buying is allowed.", "Buy, or close what you hold."),
    R.SHORT_ONLY: _terms(422, 10043, 0, "Only selling is allowed.", "Sell, or close what you hold."),
    R.PRODUCT_BANNED: _terms(
        422, 10017, 0, "The product may not be sold to you.", "Close what you hold; openings are not allowed."
    ),
    R.BONUS_BANNED: _terms(422, 10017, None, "The client may get no bonus or credit.", "Check the client's category."),
    R.FROZEN: _terms(
        422, 10029, 99, "The order or protection is too near its price to be changed.", "Wait for its outcome."
    ),
    R.NO_GUARANTEE: _terms(422, 10016, 99, "The symbol has no guaranteed stops.", "Use a stop loss without guarantee."),
    R.WORSE_GUARANTEE: _terms(
        422, 10016, 99, "A guaranteed stop may not be widened or given up.", "Move it nearer to the market, or close."
    ),
    R.FUNDS_NOT_WITHDRAWABLE: _terms(
        422, 10019, None, "That much cannot be withdrawn now.", "Withdraw less, or close positions first."
    ),
    R.NO_CONNECTION: _terms(
        503, 10031, 0, "No liquidity can be reached for this order.", "Try again in a moment.", retryable=True
    ),
    R.REJECTED_BY_LP: _terms(422, 10006, 0, "The order was refused by the market.", "Look at the price and try again."),
    R.ORDER_NOT_FOUND: _terms(404, 10035, 5, "There is no such order.", "List your orders."),
    R.ORDER_CHANGED: _terms(
        409, 10013, None, "More of the order was filled since this was proposed.", "Look at it again and propose anew."
    ),
    R.POSITION_CLOSED: _terms(409, 10036, 99, "The position is closed or does not exist.", "List your positions."),
    R.CLOSE_VOLUME_TOO_LARGE: _terms(
        409, 10038, 99, "The volume is larger than what is open.", "Close at most the open volume."
    ),
    R.CLOSE_ORDER_EXISTS: _terms(
        409, 10039, 99, "That volume is being closed already.", "Wait for the close in flight.", retryable=True
    ),
    R.INVALID_CLOSE_BY: _terms(
        422, 10013, 99, "The two positions cannot be closed by each other.", "Close each of them at the market."
    ),
    R.WITHDRAWAL_NOT_FOUND: _terms(404, 10013, None, "There is no such open withdrawal.", "List the withdrawals."),
    R.DEAL_NOT_FOUND: _terms(404, 10013, None, "There is no such deal.", "List the deals."),
    R.DEAL_NOT_CORRECTABLE: _terms(
        409, 10013, None, "The deal cannot be corrected any more.", "Adjust the balance instead."
    ),
    R.SECOND_PERSON_REQUIRED: _terms(
        422, 10013, None, "Two different people must stand behind this.", "Have somebody else approve it."
    ),
    R.NOT_AUTHENTICATED: _terms(401, 10011, None, "The credentials are missing or wrong.", "Log in and use the token."),
    R.TOKEN_EXPIRED: _terms(401, 10011, None, "The token has expired or was revoked.", "Refresh the token or log in."),
    R.FORBIDDEN: _terms(403, 10017, None, "This is not allowed for you.", "Use credentials with the right scope."),
    R.NOT_FOUND: _terms(404, 10013, None, "There is nothing here.", "Look at the API's documentation."),
    R.METHOD_NOT_ALLOWED: _terms(405, 10013, None, "The method is not allowed here.", "See the Allow header."),
    R.UNSUPPORTED_MEDIA_TYPE: _terms(415, 10013, None, "The body's type is not understood.", "Send application/json."),
    R.REQUEST_TOO_LARGE: _terms(413, 10013, None, "The body is too large.", "Send a smaller request."),
    R.RATE_LIMITED: _terms(429, 10024, 0, "Too many requests.", "Wait as Retry-After says.", retryable=True),
    R.BUSY: _terms(503, 10012, 0, "The platform is busy.", "Nothing was done; try again in a moment.", retryable=True),
    R.TIMEOUT_UNKNOWN: _terms(
        504,
        10012,
        None,
        "The outcome is not known yet.",
        "Ask for the order by its client_order_id before sending again.",
    ),
    R.INTERNAL: _terms(500, 10011, 0, "Something failed on our side.", "Report the request id."),
}
