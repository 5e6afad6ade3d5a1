"""Robot drivers."""
