"""Evidence: what was run, how each episode went, and how sure one can be."""
