"""The engine's own records, and publishing the configuration."""
