"""Lines put into blocks by their indentation."""

from __future__ import annotations

from dataclasses import dataclass, field

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.grammar import Parsed, parse
from tagwerk.actors.orders.logic.pfdl.lines import Line
from tagwerk.actors.orders.logic.pfdl.model import Finding, Place


@dataclass(slots=True)
class Block:
    """A line, and the lines that are indented below it."""

    parsed: Parsed
    below: list[Block] = field(default_factory=list["Block"])

    @property
    def kind(self) -> str:
        """What the line is: an alternative of the grammar, or `broken`."""
        return self.parsed.kind

    @property
    def name(self) -> str:
        """The name in the line."""
        return self.parsed.name

    @property
    def place(self) -> Place:
        """Where the line begins."""
        return self.parsed.line.place

    @property
    def text(self) -> str:
        """The line as written, shortened for a message."""
        return self.parsed.line.text.split("\n", 1)[0][:60]

    @property
    def last_line(self) -> int:
        """The number of the last line of the block."""
        last = self
        while last.below:
            last = last.below[-1]
        return last.place.line + last.parsed.line.text.count("\n")


def blocks_of(lines: list[Line], findings: list[Finding]) -> list[Block]:
    """Read the lines and nest them; gives those of the lowest level."""
    top: list[Block] = []
    levels: list[tuple[int, list[Block]]] = [(0, top)]
    for line in lines:
        depth = len(levels)
        while line.indent < levels[-1][0]:
            levels.pop()
        indent, siblings = levels[-1]
        if line.indent > indent:
            if depth == len(levels) and siblings:
                siblings = siblings[-1].below
                levels.append((line.indent, siblings))
            else:
                known = " or ".join(str(level) for level, _ in levels)
                message = "the indentation is that of no block above"
                findings.append(Finding(line.place, message, f"{known} spaces", str(line.indent)))
        if len(levels) > limits.BLOCK_DEPTH:
            if not siblings and len(levels) == limits.BLOCK_DEPTH + 1:
                message = "blocks are nested too deep"
                findings.append(Finding(line.place, message, f"at most {limits.BLOCK_DEPTH} levels"))
            siblings.append(Block(Parsed(line, "broken")))
        else:
            siblings.append(Block(Parsed(line, "broken") if line.is_spoilt else parse(line, findings)))
    return top
