"""The grammar of one logical line, and what a line of each kind holds. Blocks are made of lines by indentation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from lark import Lark, Token, Transformer_NonRecursive, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from tagwerk.actors.orders.logic.pfdl import limits
from tagwerk.actors.orders.logic.pfdl.lines import Line
from tagwerk.actors.orders.logic.pfdl.model import (
    NOWHERE,
    Constant,
    Counter,
    Expression,
    Finding,
    Json,
    Operator,
    Path,
    Place,
    Type,
)

GRAMMAR: Final = r"""
line: "Struct" UPPER                              -> struct
    | "Task" LOWER                                -> task
    | "End"                                       -> end
    | "In"                                        -> in
    | "Out"                                       -> out
    | "Parallel"                                  -> parallel
    | "Loop" "While" expression                   -> while
    | "Loop" LOWER "To" limit                     -> count
    | "Parallel" "Loop" LOWER "To" limit          -> parallel_count
    | "Condition"                                 -> condition
    | "Passed"                                    -> passed
    | "Failed"                                    -> failed
    | UPPER                                       -> upper
    | UPPER NUMBER                                -> setting
    | UPPER object                                -> literal
    | object                                      -> bare_literal
    | LOWER ":" type                              -> definition
    | expression                                  -> expression_line

limit: path | NUMBER
type: TYPE -> plain_type
    | TYPE "[" NUMBER? "]" -> array_type
    | UPPER -> plain_type
    | UPPER "[" NUMBER? "]" -> array_type
TYPE: /(number|string|boolean)\b/

?expression: and_part | expression OR and_part    -> binary
?and_part: not_part | and_part AND not_part       -> binary
?not_part: comparison | NOT not_part              -> unary
?comparison: sum | comparison COMPARISON sum      -> binary
?sum: product | sum (PLUS | MINUS) product        -> binary
?product: atom | product FACTOR atom              -> binary
?atom: NUMBER                                     -> number
     | STRING                                     -> text
     | TRUTH                                      -> truth
     | path                                       -> variable
     | "(" expression ")"
     | MINUS atom                                 -> negative
OR: "Or"
AND: "And"
NOT: "!"
COMPARISON: "<=" | ">=" | "==" | "!=" | "<" | ">"
PLUS: "+"
MINUS: "-"
FACTOR: "*" | "/"
TRUTH.1: /(true|false)\b/

path: LOWER (index | field)*
field: "." LOWER
index: "[" (NUMBER | LOWER) "]"

object: LBRACE [pair ("," pair)*] "}"
pair: STRING ":" json
?json: STRING                                     -> json_text
     | TRUTH                                      -> json_truth
     | MINUS? NUMBER                              -> json_number
     | object
     | LSQB [json ("," json)*] "]"                -> array

LBRACE: "{"
LSQB: "["
NUMBER: /[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/
STRING: /"(\\.|[^"\\\n])*"/
UPPER: /[A-Z][a-zA-Z0-9_]*/
LOWER: /[a-z][a-zA-Z0-9_]*/
%ignore /[ \t\n]+/
"""

RESERVED: Final = frozenset(
    (
        *("Struct", "Task", "End", "In", "Out", "Loop", "While", "To", "Parallel", "Condition", "Passed", "Failed"),
        *("And", "Or", "OnDone", "number", "string", "boolean", "true", "false"),
    )
)

_FORMS: Final = MappingProxyType(
    {
        "Struct": "`Struct Name`, the name with a capital letter first",
        "Task": "`Task name`, the name with a small letter first",
        "End": "`End` alone",
        "In": "`In` alone, what goes in on the lines below",
        "Out": "`Out` alone, what comes out on the lines below",
        "Loop": "`Loop While CONDITION` or `Loop i To LIMIT`",
        "Parallel": "`Parallel` alone or `Parallel Loop i To LIMIT`",
        "Condition": "`Condition` alone, the expression on the line below",
        "Passed": "`Passed` alone",
        "Failed": "`Failed` alone",
    }
)
_WORDS: Final = MappingProxyType(
    {
        "UPPER": "a name with a capital letter first",
        "LOWER": "a name with a small letter first",
        "NUMBER": "a number",
        "STRING": 'a text in "quotes"',
        "TRUTH": "`true` or `false`",
        "TYPE": "`number`, `string`, `boolean`",
        "COMPARISON": "`<` `<=` `>` `>=` `==` `!=`",
        "FACTOR": "`*` `/`",
        "OR": "`Or`",
        "AND": "`And`",
        "NOT": "`!`",
        "PLUS": "`+`",
        "MINUS": "`-`",
        "LPAR": "`(`",
        "RPAR": "`)`",
        "LSQB": "`[`",
        "RSQB": "`]`",
        "LBRACE": "`{`",
        "RBRACE": "`}`",
        "COLON": "`:`",
        "COMMA": "`,`",
        "DOT": "`.`",
        "TO": "`To`",
        "WHILE": "`While`",
        "LOOP": "`Loop`",
        "$END": "the end of the line",
    }
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one line says.

    Args:
        kind: Which alternative of the grammar, `broken` if none.
        name: The name in it, with its place.
        value: The rest: a type, a literal, an expression, a limit, a setting's number.
    """

    line: Line
    kind: str
    name: str = ""
    name_place: Place = NOWHERE
    value: Any = None


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, start="line", parser="lalr", lexer="contextual", maybe_placeholders=False)


def parse(line: Line, findings: list[Finding]) -> Parsed:
    """Read one line; what is wrong with it goes to `findings`."""
    try:
        tree: Any = _parser().parse(line.text)
    except UnexpectedInput as error:
        findings.append(_finding(line, error))
        return Parsed(line, "broken")
    return _Reader(line, findings).read(tree)


def _finding(line: Line, error: UnexpectedInput) -> Finding:
    first = line.text.split(None, 1)[0]
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    if at_end or error.line < 1:  # lark gives the last token's place, or none
        written = line.text.split("\n")
        place, value = line.at(len(written), len(written[-1]) + 1), "the end of the line"
    else:
        place = line.at(error.line, error.column)
        value = _written(error)
    if value.startswith('"') and isinstance(error, UnexpectedCharacters):
        return Finding(place, "this text is never closed", 'a `"` on the same line', value)
    return Finding(place, "this cannot stand here", _FORMS.get(first) or _expected(error), value)


def _written(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedToken):
        return str(error.token)[:60]
    character = error.char if isinstance(error, UnexpectedCharacters) else ""
    return character if character.isprintable() else repr(character)


def _expected(error: UnexpectedInput) -> str:
    names: Any = getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", ())
    return ", ".join(_WORDS[name] for name in _WORDS if name in names) or _WORDS["$END"]


def number_of(text: str) -> float | int | None:
    """Give the value of a number as written; None if no 64-bit float holds it."""
    if len(text) > limits.NUMBER_CHARACTERS:
        return None
    if text.lstrip("-").isdigit() and abs(whole := int(text)) <= limits.EXACT_INTEGER:
        return whole
    value = float(text)
    return value if math.isfinite(value) else None


class _Reader(Transformer_NonRecursive[Token, Any]):
    """Makes our values of lark's tree. Methods are named like the grammar's alternatives."""

    def __init__(self, line: Line, findings: list[Finding]) -> None:
        super().__init__()
        self._line = line
        self._findings = findings

    def read(self, tree: Any) -> Parsed:
        kind = str(tree.data)
        parts = [child if isinstance(child, Token) else self.transform(child) for child in tree.children]
        return self._parsed(kind, parts)

    def _parsed(self, kind: str, parts: list[Any]) -> Parsed:
        name, rest = (parts[0], parts[1:]) if parts and isinstance(parts[0], Token) else ("", parts)
        if kind == "setting":
            rest = [self._number(rest[0])]
        place = self._place(name) if isinstance(name, Token) else self._line.place
        if name in RESERVED:
            self._note(place, "this word is reserved", "another name", str(name))
        return Parsed(self._line, kind, str(name), place, rest[0] if rest else None)

    def _place(self, token: Token) -> Place:
        return self._line.at(token.line or 1, token.column or 1)

    def _note(self, place: Place, message: str, expected: str, value: str) -> None:
        self._findings.append(Finding(place, message, expected, value[:80]))

    def _number(self, token: Token, sign: str = "") -> float | int:
        value = number_of(sign + token)
        if value is None:
            self._note(self._place(token), "the number is too big", "a 64-bit float", token)
        return 0 if value is None else value

    def _whole(self, token: Token) -> int:
        value = self._number(token)
        if not isinstance(value, int):
            self._note(self._place(token), "this is no whole number", "digits alone, at most 2^53", token)
        return int(value)

    def _text(self, token: Token) -> str:
        try:
            text: str = json.loads(token, strict=False)
            text.encode()
        except ValueError:
            self._note(self._place(token), "a `\\` in this text is not followed by what JSON allows", "`\\\\`", token)
            return ""
        return text

    def limit(self, parts: list[Any]) -> Path | int:
        return self._whole(parts[0]) if isinstance(parts[0], Token) else parts[0]

    def plain_type(self, parts: list[Token]) -> Type:
        return Type(str(parts[0]))

    def array_type(self, parts: list[Token]) -> Type:
        return Type(str(parts[0]), array=True, length=self._whole(parts[1]) if len(parts) > 1 else None)

    def binary(self, parts: list[Any]) -> Expression:
        left, operator, right = parts
        return (*left, *right, Operator(self._place(operator), str(operator)))

    def unary(self, parts: list[Any]) -> Expression:
        return (*parts[1], Operator(self._place(parts[0]), "!"))

    def negative(self, parts: list[Any]) -> Expression:
        return (*parts[1], Operator(self._place(parts[0]), "neg"))

    def number(self, parts: list[Token]) -> Expression:
        return (Constant(self._place(parts[0]), self._number(parts[0])),)

    def text(self, parts: list[Token]) -> Expression:
        return (Constant(self._place(parts[0]), self._text(parts[0])),)

    def truth(self, parts: list[Token]) -> Expression:
        return (Constant(self._place(parts[0]), parts[0] == "true"),)

    def variable(self, parts: list[Path]) -> Expression:
        return (parts[0],)

    def path(self, parts: list[Any]) -> Path:
        return Path(self._place(parts[0]), str(parts[0]), tuple(parts[1:]))

    def field(self, parts: list[Token]) -> str:
        return str(parts[0])

    def index(self, parts: list[Token]) -> int | Counter:
        return self._whole(parts[0]) if parts[0].type == "NUMBER" else Counter(str(parts[0]))

    def object(self, parts: list[Any]) -> Json:
        brace, *pairs = parts
        seen: set[str] = set()
        for name, place, _ in pairs:
            if name in seen:
                self._note(place, "this field is given twice", "it once", name)
            seen.add(name)
        return Json(self._place(brace), tuple(pairs))

    def pair(self, parts: list[Any]) -> tuple[str, Place, Json]:
        return self._text(parts[0]), self._place(parts[0]), parts[1]

    def array(self, parts: list[Any]) -> Json:
        return Json(self._place(parts[0]), parts[1:])

    def json_text(self, parts: list[Token]) -> Json:
        return Json(self._place(parts[0]), self._text(parts[0]))

    def json_truth(self, parts: list[Token]) -> Json:
        return Json(self._place(parts[0]), parts[0] == "true")

    def json_number(self, parts: list[Token]) -> Json:
        return Json(self._place(parts[0]), self._number(parts[-1], "-" if len(parts) > 1 else ""))
