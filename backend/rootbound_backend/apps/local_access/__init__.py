"""Writable roots, the audit log and the PM's decompositions."""
