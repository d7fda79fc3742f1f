"""Worked examples from the rules and from brokers' pages, calculated anew by the product's own code and compared."""
