"""Speed, measured beside its floor in the same run. Each page prints its inputs and one `name=value` line per figure."""
