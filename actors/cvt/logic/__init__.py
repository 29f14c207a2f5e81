"""The shard's rules, pure: which value is current, whose tag it is, what a view sees."""
