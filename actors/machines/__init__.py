"""Machines: state machines of the plant's own code, each in a process, driving outputs under a lease."""

from tagwerk.actors.machines.bench import Bench, Reading
from tagwerk.actors.machines.declare import Input, Output, Parameter
from tagwerk.actors.machines.machine import Machine

__all__ = ["Bench", "Input", "Machine", "Output", "Parameter", "Reading"]
