"""The current value table: shards that keep what every tag is now, journal it, and feed whoever looks."""
