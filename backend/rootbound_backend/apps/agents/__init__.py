"""Agent profiles."""
