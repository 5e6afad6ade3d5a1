"""One step of the loop a file; each takes the context and a record, and returns a record."""
