"""`posa doctor`."""
