"""Training shards: packed from episodes, read by the loader."""
