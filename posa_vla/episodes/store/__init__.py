"""The episode store: batches, quarantine, what was declared and remarked of them."""
