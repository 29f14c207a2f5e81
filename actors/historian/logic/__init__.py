"""What history means, without I/O: what is kept, a tag's samples in order, summaries, buckets and trends."""
