"""Schedules: stored crontabs that start plans and batches."""
