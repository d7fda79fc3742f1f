"""Open and closed positions, and the door that closes them."""
