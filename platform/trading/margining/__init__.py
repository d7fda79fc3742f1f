"""Margin in full: terms, the charge of one position or order, a whole account's margin (fast and slow), and its level."""
