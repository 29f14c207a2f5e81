"""The historian: every logged sample, exactly once, on the disk."""
