"""Orders and deals: the engine's rows, the REST door that places and reads them."""
