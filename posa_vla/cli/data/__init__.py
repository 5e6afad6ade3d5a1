"""`posa data`."""
