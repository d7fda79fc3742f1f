"""Facts in, decision out: which book, which providers, what split, and why. Pure."""
