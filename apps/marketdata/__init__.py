"""Symbols and prices as clients see them: the newest quotes from Redis with the group's markup."""
