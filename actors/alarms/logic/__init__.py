"""The domain of alarms, pure: samples, commands and time in; states, occurrences and steps out."""
