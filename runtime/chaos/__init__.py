"""`tagwerk chaos`: an acceptance test of a box. A plant under load, its processes killed, and what it promised, counted."""
