"""What can be wrong with tasks: names, types, calls, expressions. All of it is told, not only the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl import structs as named
from tagwerk.actors.orders.logic.pfdl.expressions import gives, takes
from tagwerk.actors.orders.logic.pfdl.lines import DIALECT_LINE
from tagwerk.actors.orders.logic.pfdl.model import (
    BOOLEAN,
    NUMBER,
    PRIMITIVES,
    STRING,
    Call,
    Condition,
    Constant,
    Count,
    Counter,
    Definition,
    Expression,
    Finding,
    Literal,
    Operator,
    Parallel,
    Path,
    Place,
    Statement,
    Step,
    Task,
    Type,
    While,
    statements_in,
    types_of,
)
from tagwerk.actors.orders.logic.pfdl.values import Fields, misfits, place_of, plain, unknown_fields

_Named: TypeAlias = Sequence[tuple[str, Type | None]]


class TaskCheck:
    """The check of one task.

    Args:
        tasks: All tasks.
        fields: The fields of all sound structs.
        sizes: How many values one of each of them holds.
        known: The names of all structs, sound or not.
        unread: The names of tasks and structs whose text could not be read whole.
        dialect: Which dialect the text is in.
        findings: Where what is wrong goes.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        fields: Fields,
        sizes: Mapping[str, int],
        known: Collection[str],
        unread: set[str],
        dialect: int,
        findings: list[Finding],
    ) -> None:
        self._tasks = tasks
        self._fields = fields
        self._sizes = sizes
        self._known = known
        self._unread = unread
        self._dialect = dialect
        self._findings = findings
        self._ends: dict[str, tuple[_Named, _Named]] = {}  # of tasks that are called: what goes in, what comes out
        self._key = ""
        self._whole = True  # else a name may be missing only because its line could not be read
        self._types: dict[str, Type | None] = {}  # None: defined, of a type that is not known
        self._set: set[str] = set()  # variables that may have a value by now
        self._counters: set[str] = set()

    def run(self, task: Task) -> None:
        """Check the task."""
        self._key = f"Task {task.name}"
        self._whole = task.name not in self._unread
        self._types = {}
        for one in task.inputs:
            if one.name in self._types:
                self._note(one.place, f"the input `{one.name}` is defined twice", "another name", one.name)
            self._define(one)
        for statement in statements_in(task.body):
            for one in statement.outputs if isinstance(statement, Call) else ():
                self._define(one)
        self._set = {one.name for one in task.inputs}
        self._body(task.body)
        for name, place in task.outputs:
            self._variable(name, place)
        names = [name for name, _ in task.outputs]
        for index, (name, place) in enumerate(task.outputs):
            if name in names[:index]:
                self._note(place, f"`{name}` is given out twice", "it once", name)

    def _note(self, place: Place, message: str, expected: str, value: str = "") -> None:
        self._findings.append(Finding(place, message, expected, value, self._key))

    def _define(self, one: Definition) -> None:
        named.check_type(one, self._known, self._key, self._findings)
        type_ = one.type if one.type.name in PRIMITIVES or one.type.name in self._fields else None
        if (size := named.size_of(one.type, self._sizes)) > limits.TYPE_VALUES:
            self._note(one.place, f"one {one.type} holds {size} values", f"at most {limits.TYPE_VALUES}", str(one.type))
            type_ = None
        first = self._types.setdefault(one.name, type_)
        if first is not None and type_ is not None and first != type_:
            self._note(
                one.place, f"`{one.name}` is of type {first} already", "another name, or the same type", str(one.type)
            )

    def _body(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            if isinstance(statement, Call):
                self._call(statement)
            elif isinstance(statement, Parallel):
                self._calls(statement.calls)
            elif isinstance(statement, Condition):
                self._test(statement.test)
                self._branches(statement.passed, statement.failed)
            elif isinstance(statement, While):
                self._test(statement.test)
                self._loop(statement)
            else:
                self._count(statement)

    def _branches(self, *bodies: tuple[Statement, ...]) -> None:
        before, after = set(self._set), set(self._set)
        for body in bodies:
            self._set = set(before)
            self._body(body)
            after |= self._set
        self._set = after

    def _loop(self, loop: While | Count) -> None:
        # The second time round, what the body has set is there at its beginning.
        inside = [one for one in statements_in(loop.body) if isinstance(one, Call)]
        before = set(self._set)
        self._set |= {output.name for call in inside for output in call.outputs}
        self._body(loop.body)
        self._set |= before

    def _count(self, loop: Count) -> None:
        if loop.counter in self._types:
            self._note(loop.place, f"`{loop.counter}` is a variable already", "another name", loop.counter)
        if loop.counter in self._counters:
            self._note(loop.place, f"`{loop.counter}` counts the loop around this one", "another name", loop.counter)
            return
        if isinstance(loop.limit, Path):
            limit = self._path(loop.limit)
            if limit not in (NUMBER, None):
                self._note(loop.limit.place, f"the limit is of type {limit}", "a number", str(loop.limit))
        self._counters.add(loop.counter)
        if loop.parallel:
            self._calls(tuple(one for one in loop.body if isinstance(one, Call)))
        else:
            self._loop(loop)
        self._counters.discard(loop.counter)

    def _calls(self, calls: tuple[Call, ...]) -> None:
        before, after = set(self._set), set(self._set)
        for call in calls:  # side by side: none sees what another gives
            self._set = set(before)
            self._call(call)
            after |= self._set
        self._set = after

    def _call(self, call: Call) -> None:
        given = [self._input(one) for one in call.inputs]
        if not call.is_service:
            self._matches(call, given)
        seen: set[str] = set()
        for one in call.outputs:
            if one.name in self._counters:
                self._note(one.place, f"`{one.name}` counts the loop around it", "another name", one.name)
            if one.name in seen:
                self._note(one.place, f"`{one.name}` comes out twice", "another name", one.name)
            seen.add(one.name)
        before = set(self._set)
        self._set |= seen
        if call.on_error is not None:
            after, self._set = self._set, before
            self._body(call.on_error)
            self._set |= after

    def _matches(self, call: Call, given: list[Type | None]) -> None:
        """Compare a call with the task that it calls."""
        task = self._tasks.get(call.name)
        if task is None:
            if call.name not in self._unread:
                expected = named.meant(call.name, self._tasks, self._findings)
                self._note(call.place, f"there is no task {call.name}", expected, call.name)
            return
        if task.name in self._unread:
            return
        if task.name not in self._ends:
            own = types_of(task)
            goes_in: _Named = [(one.name, one.type) for one in task.inputs]
            self._ends[task.name] = goes_in, [(name, own.get(name)) for name, _ in task.outputs]
        goes_in, comes_out = self._ends[task.name]
        self._agree(call, "take", goes_in, given, [one.place for one in call.inputs])
        self._agree(call, "give", comes_out, [one.type for one in call.outputs], [one.place for one in call.outputs])

    def _agree(
        self, call: Call, verb: str, declared: _Named, given: Sequence[Type | None], places: list[Place]
    ) -> None:
        if len(declared) != len(given):
            if not self._whole:
                return
            listed = ", ".join(f"{name}: {type_}" if type_ else name for name, type_ in declared[:8])
            what = f"{call.name} {verb}s {len(declared) or 'nothing'}, not {len(given) or 'nothing'}"
            self._note(call.place, what, f"`{listed}`" if listed else "none", call.name)
            return
        for (name, want), have, place in zip(declared, given, places, strict=True):
            taken = want is None or have is None or (want.takes(have) if verb == "take" else have.takes(want))
            if not taken:
                direction = "goes into" if verb == "take" else "comes out of"
                self._note(place, f"{have} is not the type of what {direction} {call.name} as `{name}`", f"{want}")

    def _input(self, given: Path | Literal) -> Type | None:
        if isinstance(given, Path):
            return self._path(given, goes_in=True)
        type_ = Type(given.struct)
        if given.struct not in self._fields:
            if given.struct not in self._known:
                expected = named.meant(given.struct, self._known, self._findings)
                self._note(given.place, f"there is no struct {given.struct}", expected, given.struct)
            return None
        for struct, name, place in unknown_fields(given.value, type_, self._fields):
            expected = named.meant(name, self._fields[struct], self._findings)
            self._note(place, f"{struct} has no field `{name}`", expected, name)
        for wrong in misfits(plain(given.value), type_, self._fields):
            self._note(place_of(given.value, wrong.path), wrong.message, wrong.expected, wrong.value)
        return type_

    def _test(self, expression: Expression) -> None:
        """Check an expression that decides something; an empty one could not be read."""
        if not expression:
            return
        found = self._type(expression)
        if found not in (BOOLEAN, None):
            place = min(item.place for item in expression)
            self._note(place, f"this is of type {found}", "something that is true or false, like a comparison")

    def _type(self, expression: Expression) -> Type | None:
        stack: list[Type | None] = []
        for item in expression:
            if isinstance(item, Path):
                stack.append(self._path(item))
            elif isinstance(item, Constant):
                kind = BOOLEAN if isinstance(item.value, bool) else STRING if isinstance(item.value, str) else NUMBER
                stack.append(kind)
            else:
                right = stack.pop()
                stack.append(self._operation(item, [right] if item.is_unary else [stack.pop(), right]))
        return stack.pop()

    def _operation(self, item: Operator, operands: list[Type | None]) -> Type:
        if item.symbol == "neg" and not self._dialect:
            self._note(item.place, "a minus before a value is no plain PFDL", f"`0 - ...`, or `{DIALECT_LINE}`", "-")
        known = [one for one in operands if one is not None]
        wanted = takes(item.symbol)
        sign = "-" if item.symbol == "neg" else item.symbol
        if any(one not in wanted for one in known) or len(set(known)) > 1:
            have = " and ".join(str(one) for one in known)
            want = " or ".join(f"{one}s" for one in wanted)
            self._note(item.place, f"`{sign}` cannot take {have}", f"{want}, the same on both sides", sign)
        return gives(item.symbol)

    def _path(self, path: Path, *, goes_in: bool = False) -> Type | None:
        """Give the type at the end of a path; None if it is not known, which is then told."""
        plain_form = isinstance(path.steps[0], str) if path.steps else goes_in and path.name not in self._counters
        if not plain_form and not self._dialect:
            message = "plain PFDL has no such path here"
            expected = f"a field, `order.count`, or the line `{DIALECT_LINE}` at the top"
            self._note(path.place, message, expected, str(path))
        if path.name in self._counters and not path.steps:
            return NUMBER
        type_ = self._variable(path.name, path.place)
        for index, step in enumerate(path.steps):
            if type_ is None:
                return None
            type_ = self._step(replace(path, steps=path.steps[:index]), step, type_)
        return type_

    def _step(self, path: Path, step: Step, type_: Type) -> Type | None:
        """Give the type one step further along a path; `path` is the way up to there."""
        if isinstance(step, str):
            if type_.array or type_.name in PRIMITIVES:
                expected = f"`{path}[i]`, one of its elements" if type_.array else f"`{path}` alone"
                self._note(path.place, f"`{path}` is of type {type_} and has no fields", expected, step)
                return None
            known = self._fields[type_.name]
            if step not in known:
                expected = named.meant(step, known, self._findings)
                self._note(path.place, f"{type_} has no field `{step}`", expected, f"{path}.{step}")
            found = known.get(step)
            return found if found is None or found.name in PRIMITIVES or found.name in self._fields else None
        if not type_.array:
            self._note(path.place, f"`{path}` is of type {type_}, no array", "no [ ] after it", str(path))
            return None
        if isinstance(step, Counter) and step.name not in self._counters and self._whole:
            if_none = "a whole number, or the counter of a loop around this"
            expected = named.meant(step.name, self._counters, self._findings, if_none)
            self._note(path.place, f"no loop counts `{step.name}`", expected, step.name)
        if isinstance(step, int) and type_.length is not None and step >= type_.length:
            self._note(path.place, f"`{path}` has {type_.length} elements", f"0 to {type_.length - 1}", str(step))
        return type_.element

    def _variable(self, name: str, place: Place) -> Type | None:
        if not self._whole:
            return self._types.get(name)
        if name not in self._types:
            expected = named.meant(name, self._types, self._findings, "one that comes in, or out of a call")
            self._note(place, f"there is no variable `{name}`", expected, name)
            return None
        if name not in self._set:
            self._note(place, f"`{name}` has no value yet", "it after the call that gives it", name)
        return self._types[name]
