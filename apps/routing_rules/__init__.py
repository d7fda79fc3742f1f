"""The routing rules as configured, and the decisions that came of them."""
