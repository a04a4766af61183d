"""The Django apps of the backend."""
