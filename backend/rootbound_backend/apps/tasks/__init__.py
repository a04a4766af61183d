"""Tasks: units of work with dependencies."""
