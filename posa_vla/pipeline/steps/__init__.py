"""The steps of the loop, one file each: `step(context, record)` does it once, and gives the next record."""
