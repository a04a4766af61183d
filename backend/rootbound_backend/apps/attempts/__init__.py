"""Attempts: one run of one agent on one task."""
