"""Currencies and symbols, as the back office configures them."""
