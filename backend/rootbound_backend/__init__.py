"""Rootbound's backend: projects, tasks, attempts, their event streams and the audit log."""
