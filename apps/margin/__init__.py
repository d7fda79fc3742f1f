"""What an account is worth now: equity, margin and level, valued as the engine values them."""
