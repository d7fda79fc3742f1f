"""Forms of the configuration: terms are checked as they are typed in, in the sentences that publishing would refuse with."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.db.models import Model

from apps.accounts.models import Account, Group
from apps.instruments.models import Currency, Instrument
from apps.operations.models import FirmSettings
from apps.operations.terms import (
    FIRM_TERMS,
    GROUP_TERMS,
    INSTRUMENT_TERMS,
    breaker_value,
    group_value,
    instrument_value,
    regulation_value,
)
from trading.breaker import breaker_problems
from trading.configuration import ConfigurationRefused, group_problems
from trading.overrides import value_problem
from trading.publishable import instrument_problems
from trading.regulation import regulation_problems


class TermsForm(forms.ModelForm):  # type: ignore[type-arg]
    """`terms` says which JSON columns there are and what they hold; `problems` judges the row as a whole.

    The model and its fields come from the admin.
    """

    terms: ClassVar[dict[str, Any]] = {}

    def problems(self, row: Any) -> Iterable[str]:
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        for field, kind in self.terms.items():
            if field in data:
                self._check_column(data, field, kind)
        if not self.errors:
            self._check_row(self._meta.model(**data))
        return data

    def _check_column(self, data: dict[str, Any], field: str, kind: Any) -> None:
        """An emptied column has its default again: no terms, or the usual ones."""
        if data[field] is None:
            data[field] = getattr(self._meta.model(), field)
        problem = value_problem(field, data[field], kind)
        if problem:
            self.add_error(field, f"{problem}.")

    def _check_row(self, row: Model) -> None:
        try:
            found = list(self.problems(row))
        except ConfigurationRefused as refused:
            found = [str(refused)]
        for problem in found:
            self.add_error(None, f"{problem}.")


class InstrumentForm(TermsForm):
    terms = INSTRUMENT_TERMS

    def problems(self, row: Instrument) -> Iterable[str]:
        return instrument_problems(instrument_value(row), _currencies())


class GroupForm(TermsForm):
    terms = GROUP_TERMS

    def problems(self, row: Group) -> Iterable[str]:
        symbols = {instrument.symbol: instrument_value(instrument) for instrument in Instrument.objects.all()}
        return group_problems(group_value(row), symbols, _currencies())


class FirmSettingsForm(TermsForm):
    terms = FIRM_TERMS

    def problems(self, row: FirmSettings) -> Iterable[str]:
        rules = regulation_value(row)
        yield from regulation_problems(rules)
        yield from breaker_problems(breaker_value(row))
        used = Account.objects.exclude(jurisdiction="").values_list("jurisdiction", flat=True).distinct()
        missing = sorted(set(used) - {rule.jurisdiction for rule in rules})
        if missing:
            yield f"accounts are kept under jurisdictions without a rule: {', '.join(missing)}"


def _currencies() -> set[str]:
    return set(Currency.objects.values_list("code", flat=True))
