"""From episodes to training shards: validation, anchor labels, splits, packing, loading, versioning."""
