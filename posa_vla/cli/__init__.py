"""The posa command."""
