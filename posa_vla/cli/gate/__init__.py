"""`posa gate`, and the command of the distribution posa-gate."""
