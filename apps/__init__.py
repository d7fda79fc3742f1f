"""The Django apps: models, admin, the REST door, queries and services. They reach the engine through the bus alone."""
