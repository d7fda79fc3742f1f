"""Process chaos: a whole real house under load and faults, watched by checkers. `python -m tests.soak` runs it."""
