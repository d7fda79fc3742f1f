"""Messages between processes: Redis streams and pub/sub, their names and their codec. Decides nothing, knows no Django."""
