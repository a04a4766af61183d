"""Users and how they are recognised."""
