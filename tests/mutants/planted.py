"""All planted bugs, by name."""

from tests.mutants.deciding import DECIDING
from tests.mutants.providers import PROVIDERS
from tests.mutants.real import REAL
from tests.mutants.storage import STORAGE

PLANTED = (*STORAGE, *DECIDING, *PROVIDERS, *REAL)
BY_NAME = {mutant.name: mutant for mutant in PLANTED}
assert len(BY_NAME) == len(PLANTED), "two of one name"
