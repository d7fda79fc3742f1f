"""The house as counterparty: dealing fills. Pure."""
