"""Tests on four levels: unit (pure), simulation (seeded worlds), integration (real services), functional (as users)."""
