"""Publishing the rules: what the back office wrote becomes what the engine reads, or is refused in a sentence."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.forms.models import model_to_dict, modelform_factory
from django.test import Client as Browser

from apps import published
from apps.accounts.models import Account, Group, User
from apps.doors.problems import Problem
from apps.instruments.models import Instrument
from apps.operations.demo import seed_configuration
from apps.operations.effective import Question, effective_terms
from apps.operations.forms import FirmSettingsForm, GroupForm, InstrumentForm
from apps.operations.models import ConfigVersion, FirmSettings
from apps.operations.services import publish_config
from bus import codec
from trading.accounts import ClientClass
from trading.charges.fees import FeeSchedule
from trading.charges.swap import SwapMode
from trading.configuration import Config, ConfigurationRefused
from trading.quotefilter import FilterTerms
from trading.regulation import SEEDED
from trading.stopout import StopOutTerms

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(db: None) -> Iterator[None]:
    """The demo broker, configured and not published."""
    published.forget()
    seed_configuration()
    yield
    published.forget()


def publish() -> Config:
    return publish_config("staff:1", tell=False).config


def change(model: type[Any], name: str, **fields: Any) -> None:
    assert model.objects.filter(pk=name).update(**fields) == 1


def change_group(name: str, **fields: Any) -> None:
    assert Group.objects.filter(name=name).update(**fields) == 1


def refusal() -> str:
    """Why publishing is refused, with nothing stored."""
    before = ConfigVersion.objects.count()
    with pytest.raises(ConfigurationRefused) as refused:
        publish()
    assert ConfigVersion.objects.count() == before
    return str(refused.value)


def test_the_demo_broker_charges_swaps_and_stops_out_and_gives_vips_other_metals(demo: None) -> None:
    config = publish()
    gold = config.instruments["XAUUSD"]
    assert (gold.swap.mode, gold.swap.long, gold.swap.short) == (SwapMode.POINTS, Decimal("-38.5"), Decimal("19.6"))
    assert all(instrument.swap.mode is SwapMode.POINTS for instrument in config.instruments.values())
    assert {group.stop_out for group in config.groups.values()} == {
        StopOutTerms(margin_calls=(Decimal(100), Decimal(80), Decimal(60)), level=Decimal(50))
    }
    assert [rule.name for rule in config.groups["vip"].overrides] == ["VIP metals"]
    assert (config.regulation, config.stp_only) == (SEEDED, False)
    assert not publish_config("staff:1", tell=False).changed


def test_every_column_reaches_the_document(demo: None) -> None:
    change(
        Instrument, "EURUSD",
        margin={"recalculate_daily": True, "rates": {"buy": "1.5"}}, margin_currency="USD",
        profit={"rounding": "per_component"}, swap={"mode": "profit", "long": "-1"}, spread={"max_points": 30},
        quote_filter={"discard_points": 400},
        controls={"collar_points": 500}, guarantee={"fee_points": "5"}, fees={}, stop_trigger="opposite",
        stops_level=20, freeze_level=5, is_cash=True, expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    change_group(
        "pro",
        margin={"accounting": "netting"}, commissions=[{"name": "c", "terms": {"rate": "1"}}], conversion={"fee": "30"},
        swap_free={"fee_per_lot": "5"}, negative_balance_protection=True, controls={"positions_max": 3},
        day_trades={}, stp_only=True, stop_out={"level": "30", "is_partial": True},
    )  # fmt: skip
    FirmSettings.objects.create(stp_only=True)
    config = codec.decode_config(codec.encode(publish()))
    euro, pro = config.instruments["EURUSD"], config.groups["pro"]
    assert (euro.margin.recalculate_daily, euro.margin.rates.buy, euro.margin_currency) == (True, Decimal("1.5"), "USD")
    assert (euro.profit.rounding.value, euro.swap.long, euro.spread.max_points) == ("per_component", Decimal(-1), 30)
    assert euro.quote_filter == FilterTerms(discard_points=400)
    assert (euro.controls.collar_points, euro.stop_trigger.value) == (500, "opposite")
    assert euro.guarantee is not None
    assert (euro.guarantee.fee_points, euro.fees) == (Decimal(5), FeeSchedule())
    assert (euro.stops_level, euro.freeze_level, euro.is_cash, euro.expires_us) == (20, 5, True, 1_798_761_600_000_000)
    assert (pro.margin.accounting.value, pro.commissions[0].terms.rate) == ("netting", Decimal(1))
    assert (pro.conversion.fee, pro.negative_balance_protection, pro.stp_only) == (Decimal(30), True, True)
    assert pro.swap_free is not None
    assert (pro.swap_free.fee_per_lot, pro.controls.positions_max) == (Decimal(5), 3)
    assert pro.day_trades is not None
    assert (pro.day_trades.count_max, pro.stop_out.level, pro.stop_out.is_partial) == (3, Decimal(30), True)
    assert config.stp_only


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"margin": {"tiers": 5}}, "EURUSD: margin cannot be"),
        (
            {"swap": {"mode": "points", "long": -6.5}},
            "EURUSD: swap.long cannot be -6.5: a number is written with plain",
        ),
        ({"swap": {"long": "1E5"}}, "EURUSD: swap.long cannot be 1E5"),
        ({"swap": {"lnog": "1"}}, "EURUSD: there is no setting swap.lnog"),
        ({"swap": {"year_days": 100}}, "EURUSD: a year has 360, 365 or 366 days"),
        ({"margin": {"rates": {"bye": "1"}}}, "EURUSD: there is no setting margin.rates.bye"),
        ({"margin": {"mode": "futures"}}, "EURUSD: a future needs an initial margin per lot"),
        ({"margin_currency": "SEK"}, "EURUSD: currency SEK has no number of decimals"),
        ({"profit": {"tick_size": "0"}}, "EURUSD: tick size and tick value must be positive"),
        ({"spread": {"min_points": 9, "max_points": 3}}, "EURUSD: the minimum spread is above the maximum"),
        (
            {"quote_filter": {"soft_points": 9, "soft_count": 1, "discard_points": 3}},
            "EURUSD: a quote filter's levels must rise from soft to hard to discard",
        ),
        ({"quote_filter": {"soft_point": 9}}, "EURUSD: there is no setting quote_filter.soft_point"),
        ({"controls": {"collar_points": 0}}, "EURUSD: collar_points must be above zero"),
        ({"guarantee": {}}, "EURUSD: guarantee cannot be {}: object missing required field `fee_points`"),
        ({"guarantee": {"fee_points": "-1"}}, "EURUSD: a guarantee's fee must not be negative"),
        ({"fees": {"tiers": []}}, "EURUSD: fee tiers must begin at 0 and rise"),
        ({"sessions": {"time_zone": "Mars"}}, "EURUSD"),
    ],
)
def test_a_symbols_bad_terms_are_refused(demo: None, fields: dict[str, Any], sentence: str) -> None:
    change(Instrument, "EURUSD", **fields)
    assert sentence in refusal()


def override(**changes: Any) -> dict[str, Any]:
    return {"overrides": [{"name": "x", "symbols": "XAU*", "changes": changes}]}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (override(digits=5), "group vip: override 'x': digits is the same for every group and cannot be changed"),
        (
            override(**{"quote_filter.discard_points": 500}),
            "group vip: override 'x': quote_filter.discard_points is the same for every group and cannot be changed",
        ),
        (override(volume_maximum="20"), "group vip: override 'x': there is no setting volume_maximum"),
        (override(volume_max=20.5), "group vip: overrides.0.changes.volume_max cannot be 20.5: a number is"),
        (override(volume_max="0.001"), "group vip: XAUUSD: volumes, contract size or digits do not fit together"),
        (override(**{"swap.periods_per_day": 99}), "group vip: XAUUSD: a day has 1 to 24 swap periods"),
        (
            override(volume_step="0.001", volume_min="0.001"),
            "group vip: XAUUSD at PRIMEXM: minimum and step do not fit",
        ),
        ({"overrides": [{"name": "x", "symbols": "BTC*", "changes": {"volume_max": "1"}}]}, "no symbol matches 'BTC*'"),
        ({"overrides": [{"name": "x", "changes": {}}]}, "group vip: overrides cannot be"),
        (
            {"overrides": [{"name": "x", "symbols": "*", "chnages": 1, "changes": {}}]},
            "there is no setting overrides.0.ch",
        ),
        ({"margin": {"accounting": "neither"}}, "group vip: margin cannot be"),
        ({"commissions": [{"name": "c", "terms": {"minimum": "-1"}}]}, "a minimum commission must not be negative"),
        ({"commissions": [{"name": "c", "terms": {}}] * 2}, "group vip: two commissions are called 'c'"),
        ({"commissions": [{"name": "c", "symbols": "!EURUSD", "terms": {}}]}, "has an empty part, or only exclusions"),
        (
            {"commissions": [{"name": "c", "terms": {"currency": "named", "currency_name": "SEK"}}]},
            "group vip: commission 'c': currency SEK has no number of decimals",
        ),
        ({"conversion": {"fee": "-1"}}, "group vip: the conversion fee must lie between"),
        ({"swap_free": {"free_nights": -1}}, "group vip: swap-free terms: free nights, fee and multipliers"),
        ({"swap_free": {"currency": "SEK"}}, "group vip: swap-free terms: currency SEK has no number of decimals"),
        ({"stop_out": {"level": "70"}}, "group vip: the last margin call must come before the stop-out"),
        ({"controls": {"messages_burst": 0}}, "group vip: a burst must let at least one message through"),
        ({"day_trades": {"days": 0}}, "group vip: day trades count over 1 to 30 business days"),
        ({"symbol_markups": {"BTCUSD": {"bid": 1}}}, "group vip: symbol markups name unknown symbols: BTCUSD"),
        ({"symbol_markups": {"EURUSD": {"bid": -1}}}, "group vip: a markup must not be negative"),
    ],
)
def test_a_groups_bad_terms_are_refused(demo: None, fields: dict[str, Any], sentence: str) -> None:
    change_group("vip", **fields)
    assert sentence in refusal()


RULE: dict[str, Any] = {
    "name": "own", "jurisdiction": "EU", "client_classes": ["retail"], "valid_from": "2020-01-01", "source": "us",
}  # fmt: skip


def test_the_firms_own_rules_take_the_place_of_the_seeded_ones(demo: None) -> None:
    FirmSettings.objects.create(regulation=[{**RULE, "close_out_share": "0.6"}])
    [rule] = publish().regulation
    assert (rule.name, rule.close_out_share) == ("own", Decimal("0.6"))


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([{**RULE, "close_out_share": "2"}], "the close-out share does not lie between 0 and 1"),
        ([RULE, RULE], "begin on the same day for the same clients"),
        ([{**RULE, "leverage_capz": {}}], "the firm: there is no setting regulation.0.leverage_capz"),
        ([{**RULE, "valid_from": "soon"}], "'soon' is not a date"),
    ],
)
def test_rules_that_make_no_sense_are_refused(demo: None, rules: list[Any], sentence: str) -> None:
    FirmSettings.objects.create(regulation=rules)
    assert sentence in refusal()


def open_account(**changes: Any) -> None:
    terms = {"group": "vip", "currency": "USD", "leverage": 30, "client_class": "retail", "rights": "full"}
    Account.objects.create(
        **{"id": 1, "shard": 0, "balance": 0, "credit": 0, "version": 0, "seq": 0, **terms, **changes}
    )


def test_no_client_loses_protection_or_terms_by_publishing(demo: None) -> None:
    open_account(jurisdiction="AU")
    publish()
    FirmSettings.objects.create(regulation=[RULE])
    assert refusal() == "jurisdiction in use is missing: AU"
    FirmSettings.objects.all().delete()
    Group.objects.filter(name="vip").delete()
    assert refusal() == "group in use is missing: vip"


# --- effective settings --------------------------------------------------------------------------------------------------


def ask(at: datetime, **changes: Any) -> dict[str, Any]:
    return effective_terms(Question(**{"group": "vip", "symbol": "XAUUSD", "at": at, **changes}))


def of(found: dict[str, Any], field: str) -> tuple[str, str]:
    [(value, rule)] = [(term["value"], term["rule"]) for term in found["terms"] if term["field"] == field]
    return value, rule


def test_the_value_of_a_time_is_the_one_that_was_published_then(demo: None) -> None:
    first = publish()
    between = ConfigVersion.objects.get(version=first.version).published_at
    change_group("vip", overrides=[{"name": "tighter", "symbols": "XAU*", "changes": {"volume_max": "5"}}])
    second = publish()
    now = datetime.now(tz=UTC)
    assert of(ask(between), "volume_max") == ("20", "VIP metals")
    assert of(ask(now), "volume_max") == ("5", "tighter")
    assert of(ask(now), "volume_min") == ("0.01", "symbol")
    assert (ask(between)["config_version"], ask(now)["config_version"]) == (first.version, second.version)
    assert of(ask(now, group="retail"), "volume_max") == ("100", "symbol")
    with pytest.raises(Problem, match="not_found"):
        ask(between - timedelta(seconds=1))


def test_the_law_is_shown_beside_the_terms(demo: None) -> None:
    publish()
    now = datetime.now(tz=UTC)
    gold = ask(now, jurisdiction="EU")
    assert (gold["regulation"]["rule"], gold["regulation"]["leverage_max"]) == ("ESMA CFD measures", 20)
    assert (gold["regulation"]["close_out_share"], gold["leverage_max"]) == ("0.5", 20)
    free = ask(now, jurisdiction="EU", client_class=ClientClass.PROFESSIONAL)
    assert (free["regulation"]["rule"], free["leverage_max"]) == ("no rule", 100)
    with pytest.raises(Problem, match="invalid_request"):
        ask(now, jurisdiction="MARS")


@pytest.mark.parametrize(
    ("changes", "code"), [({"group": "nobody"}, "unknown_group"), ({"symbol": "BTCUSD"}, "unknown_symbol")]
)
def test_what_is_not_configured_has_no_terms(demo: None, changes: dict[str, str], code: str) -> None:
    publish()
    with pytest.raises(Problem, match=code):
        ask(datetime.now(tz=UTC), **changes)


def dealer() -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_user("dealer", is_staff=True, is_superuser=True))
    return browser


def test_the_page_shows_the_rule_behind_a_value(demo: None) -> None:
    publish()
    page = dealer().get(
        "/admin/accounts/group/effective/",
        {"group": "vip", "symbol": "XAUUSD", "jurisdiction": "EU", "client_class": "retail"},
    )
    text = " ".join(page.content.decode().split())
    assert '<th scope="row" class="text-left font-normal pr-4">volume_max</th><td class="pr-4">20</td>' in text
    assert "<strong>VIP metals</strong>" in text
    assert "ESMA CFD measures" in text


def test_the_page_is_for_who_may_see_versions(demo: None) -> None:
    browser = Browser()
    browser.force_login(User.objects.create_user("clerk", is_staff=True))
    assert browser.get("/admin/accounts/group/effective/").status_code in {302, 403}


# --- forms ---------------------------------------------------------------------------------------------------------------


def errors(form: type[Any], row: Any, **changes: Any) -> str:
    """What the admin would say to these changes of a row, as text; empty when it would save them."""
    kind = modelform_factory(type(row), form=form, fields="__all__")
    data = {name: value for name, value in model_to_dict(row).items() if value is not None}
    shown = kind(instance=row).initial
    texts = {name: kind.base_fields[name].prepare_value(shown[name]) for name in kind.base_fields if name in shown}
    filled = kind({**{k: v for k, v in {**data, **texts}.items() if v is not None}, **changes}, instance=row)
    return "" if filled.is_valid() else unescape(filled.errors.as_text())


def test_a_symbol_is_judged_when_it_is_saved(demo: None) -> None:
    euro = Instrument.objects.get(symbol="EURUSD")
    assert errors(InstrumentForm, euro) == ""
    assert errors(InstrumentForm, euro, swap="", sessions="", guarantee="") == ""
    assert "there is no setting swap.lnog." in errors(InstrumentForm, euro, swap='{"lnog": "1"}')
    assert "swap.long cannot be 1.5" in errors(InstrumentForm, euro, swap='{"long": 1.5}')
    assert "EURUSD: a year has 360" in errors(InstrumentForm, euro, swap='{"year_days": 1}')
    assert "valid JSON" in errors(InstrumentForm, euro, swap="{")


def test_a_group_is_judged_when_it_is_saved(demo: None) -> None:
    vip = Group.objects.get(name="vip")
    assert errors(GroupForm, vip) == ""
    said = errors(GroupForm, vip, overrides='[{"name": "x", "symbols": "*", "changes": {"digits": 2}}]')
    assert "group vip: override 'x': digits is the same for every group" in said
    assert "margin call must come before" in errors(GroupForm, vip, stop_out='{"level": "99"}')


def test_the_firms_rules_are_judged_when_they_are_saved(demo: None) -> None:
    assert errors(FirmSettingsForm, FirmSettings(), regulation="[]") == ""
    assert "there is no setting regulation.0.x" in errors(
        FirmSettingsForm, FirmSettings(), regulation='[{"name": "n", "jurisdiction": "EU", "client_classes": ["retail"], '
        '"valid_from": "2020-01-01", "source": "s", "x": 1}]',
    )  # fmt: skip
    open_account(jurisdiction="AU")
    rules = codec.encode([RULE]).decode()
    assert "jurisdictions without a rule: AU" in errors(FirmSettingsForm, FirmSettings(), regulation=rules)


def test_the_forms_open_in_the_admin(demo: None) -> None:
    browser = dealer()
    for address in ("accounts/group/add/", "instruments/instrument/EURUSD/change/", "operations/firmsettings/add/"):
        page = browser.get(f"/admin/{address}")
        assert page.status_code == 200
    assert b"VIP metals" in browser.get(f"/admin/accounts/group/{Group.objects.get(name='vip').pk}/change/").content
