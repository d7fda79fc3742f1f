"""One process per provider and session, the LP manager that aggregates their quotes, and simulated providers."""
