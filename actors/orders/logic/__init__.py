"""The domain of orders, pure: a text in, a program out; events in, commands out."""
