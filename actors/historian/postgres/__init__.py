"""History in PostgreSQL: the same chunks, or plain rows, in a schema for each plant. Needs `tagwerk[postgresql]`."""
