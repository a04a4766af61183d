"""The audit log: partitions, queries, export, verification and retention."""
