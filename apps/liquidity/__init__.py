"""Liquidity providers: their configuration, and our orders at them."""
