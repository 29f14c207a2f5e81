"""What a user would pick instead, on the same work. Each file runs by itself in its own environment; see `speak.py`."""
