"""Terms of charges travel in the published document: what is written as JSON is read back the same."""

from decimal import Decimal

import msgspec
import pytest
from msgspec import Struct

from trading.charges.commission import Bucket, CommissionTerms, CommissionTier
from trading.charges.fees import FeeSchedule
from trading.charges.swap import NEXT_DAY_WEEK, SwapFreeTerms, SwapMode, SwapTerms
from trading.conversion import ConversionTerms
from trading.orders import OrderCommission, Side
from trading.profit import ProfitTerms


@pytest.mark.parametrize(
    "terms",
    [
        CommissionTerms(
            rate=Decimal("3.50"),
            side=Side.BUY,
            reasons=("client",),
            tiers=(CommissionTier(at_least=Decimal(10), rate=Decimal(3)),),
        ),
        OrderCommission(),
        Bucket(date="2024-01-02"),
        FeeSchedule(),
        SwapTerms(mode=SwapMode.POINTS, long=Decimal("-5.45"), multipliers=NEXT_DAY_WEEK),
        SwapFreeTerms(),
        ConversionTerms(),
        ProfitTerms(),
    ],
    ids=lambda terms: type(terms).__name__,
)
def test_terms_survive_the_document(terms: Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(terms), type=type(terms)) == terms
