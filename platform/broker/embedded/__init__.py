"""The private PostgreSQL and Redis that the house starts for itself where nobody gave it a real one."""
