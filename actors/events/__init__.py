"""The log of events: who did what, when; fetched from the outboxes of all actors."""
