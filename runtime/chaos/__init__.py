"""`tagwerk chaos`, an acceptance test of a box: a plant under load is struck, and what it promised is counted."""
