"""The sole owner of the definitions: handles for life, a shard for each tag."""
