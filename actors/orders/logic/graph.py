"""A program as text for Mermaid or Graphviz: one box a task, calls of tasks as dotted lines between boxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tagwerk.actors.orders.logic.pfdl.model import (
    Call,
    Condition,
    Constant,
    Count,
    Expression,
    Operator,
    Parallel,
    Program,
    Statement,
    Task,
)
from tagwerk.actors.orders.logic.pfdl.values import shown

_LABEL_LIMIT: Final = 60  # characters
_MERMAID: Final = MappingProxyType(
    {
        "service": '["{}"]',
        "call": '[["{}"]]',
        "test": '{{{{"{}"}}}}',
        "end": '(["{}"])',
        "bar": '["{}"]',
    }
)
_DOT: Final = MappingProxyType(
    {
        "service": "shape=box",
        "call": "shape=box, peripheries=2",
        "test": "shape=diamond",
        "end": "shape=oval",
        "bar": "shape=box, style=filled, fillcolor=black, fontcolor=white, height=0.1",
    }
)


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its id, its kind (a key of the tables above), its words."""

    id: str
    kind: str
    label: str


@dataclass(slots=True)
class Chart:
    """The graph of one task. An edge is (from, to, words)."""

    task: str
    nodes: list[Node] = field(default_factory=list[Node])
    edges: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # node -> task

    def add(self, kind: str, label: str, before: list[tuple[str, str]]) -> str:
        """Add a node after others, each given with the words at the edge from it; give its id."""
        node = f"{self.task}_{len(self.nodes)}"
        self.nodes.append(Node(node, kind, label))
        self.edges += [(other, node, words) for other, words in before]
        return node


def mermaid(program: Program) -> str:
    """Draw a program as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for chart in _charts(program):
        lines.append(f'  subgraph {chart.task}_task["{chart.task}"]')
        for node in chart.nodes:
            label = node.label.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
            lines.append(f"    {node.id}{_MERMAID[node.kind].format(label)}")
        for start, end, words in chart.edges:
            lines.append(f"    {start} --> |{words}| {end}" if words else f"    {start} --> {end}")
        lines.append("  end")
    lines += [f"  {node} -.-> {task}_0" for chart in _charts(program) for node, task in chart.calls]
    return "\n".join(lines) + "\n"


def dot(program: Program) -> str:
    """Draw a program for Graphviz."""
    lines = ["digraph order {", "  node [fontname=sans, fontsize=10];"]
    for chart in _charts(program):
        lines.append(f'  subgraph cluster_{chart.task} {{ label="{chart.task}";')
        for node in chart.nodes:
            label = node.label.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'    {node.id} [label="{label}", {_DOT[node.kind]}];')
        for start, end, words in chart.edges:
            lines.append(f'    {start} -> {end} [label="{words}"];' if words else f"    {start} -> {end};")
        lines.append("  }")
    lines += [f"  {node} -> {task}_0 [style=dotted];" for chart in _charts(program) for node, task in chart.calls]
    return "\n".join([*lines, "}"]) + "\n"


def _charts(program: Program) -> list[Chart]:
    return [_chart(task) for task in program.tasks.values()]


def _chart(task: Task) -> Chart:
    chart = Chart(task.name)
    start = chart.add("end", ", ".join([task.name, *(f"{one.name}: {one.type}" for one in task.inputs)]), [])
    last = _body(chart, task.body, [(start, "")])
    chart.add("end", ", ".join(["end", *(name for name, _ in task.outputs)]), last)
    return chart


def _body(chart: Chart, body: tuple[Statement, ...], before: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Draw statements one after the other; give where the next one comes from."""
    for statement in body:
        if isinstance(statement, Call):
            before = _call(chart, statement, before)
        elif isinstance(statement, Parallel):
            before = _parallel(chart, statement.calls, "parallel", before)
        elif isinstance(statement, Condition):
            test = chart.add("test", text_of(statement.test), before)
            passed = _body(chart, statement.passed, [(test, "passed")])
            before = passed + _body(chart, statement.failed, [(test, "failed")])
        elif isinstance(statement, Count) and statement.parallel:
            calls = tuple(one for one in statement.body if isinstance(one, Call))
            words = f"parallel {statement.counter} to {statement.limit}"
            before = _parallel(chart, calls, words, before)
        else:
            if isinstance(statement, Count):
                words = f"{statement.counter} to {statement.limit}"
            else:
                words = text_of(statement.test)
            test = chart.add("test", words, before)
            for other, why in _body(chart, statement.body, [(test, "again")]):
                chart.edges.append((other, test, why))
            before = [(test, "done")]
    return before


def _call(chart: Chart, call: Call, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
    extras = [f"timeout {call.timeout_s:g} s"] if call.timeout_s is not None else []
    extras += [f"retry {call.retries}"] if call.retries else []
    label = f"{call.name} ({', '.join(extras)})" if extras else call.name
    node = chart.add("service" if call.is_service else "call", label, before)
    if not call.is_service:
        chart.calls.append((node, call.name))
    after = [(node, "")]
    if call.on_error is not None:
        after += _body(chart, call.on_error, [(node, "error")])
    return after


def _parallel(
    chart: Chart, calls: tuple[Call, ...], words: str, before: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    fork = chart.add("bar", words, before)
    ends = [end for call in calls for end in _call(chart, call, [(fork, "")])]
    return [(chart.add("bar", "all done", ends), "")]


def text_of(expression: Expression) -> str:
    """Write an expression as in the text, with the brackets that it needs, shortened if it is long."""
    stack: list[str] = []
    for item in expression:
        if isinstance(item, Operator):
            right = stack.pop()
            sign = "-" if item.symbol == "neg" else item.symbol
            stack.append(f"{sign}{right}" if item.is_unary else f"({stack.pop()} {sign} {right})")
        else:
            stack.append(shown(item.value) if isinstance(item, Constant) else str(item))
        if len(stack[-1]) > 4 * _LABEL_LIMIT:
            stack[-1] = stack[-1][:_LABEL_LIMIT] + "..."
    last = expression[-1]
    text = stack[0][1:-1] if isinstance(last, Operator) and not last.is_unary else stack[0]
    return text if len(text) <= _LABEL_LIMIT else text[: _LABEL_LIMIT - 3] + "..."
