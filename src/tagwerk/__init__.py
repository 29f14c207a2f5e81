"""tagwerk: an actor runtime for plants: tags, alarms, history, machines and OPC UA links as processes."""

__version__ = "0.1.0"
