"""The single-writer process of a shard: state and decide (pure), step (sans I/O), journal, recovery and loop (I/O)."""
