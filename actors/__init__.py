"""What it means: one folder an actor kind. Actors meet only in messages."""
