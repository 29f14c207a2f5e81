"""Production orders: the language they are written in, and their execution."""
