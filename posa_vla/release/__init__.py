"""Bundles, signed release records, the TUF channel."""
