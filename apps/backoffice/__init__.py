"""The dealing desk: what staff see live of quotes, exposure, decisions, money and the house's processes. Reads only."""
