"""Alarms: limits watched over columns, operators' acknowledgements, and the log of what happened."""
