"""PFDL: the language of production orders. `read` makes a program of a text, `Interpreter` runs it."""

from tagwerk.actors.orders.logic.pfdl.interpreter import Interpreter, root_uuid
from tagwerk.actors.orders.logic.pfdl.model import Finding, Place, Program
from tagwerk.actors.orders.logic.pfdl.text import Unsound, findings_in, read

__all__ = ["Finding", "Interpreter", "Place", "Program", "Unsound", "findings_in", "read", "root_uuid"]
