"""What is wrong with a machine's code or its fit to the plant is told with the line, never as a trace."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tagwerk.actors.machines.bench import Bench
from tagwerk.actors.machines.inspect_classes import inspect_plant, report
from tagwerk.actors.machines.loading import load_class
from tagwerk.protocols.errors import ConfigError
from tagwerk.runtime import plantfile

TAGS = """
[tag.level]
unit = "percent"
low = 0.0
high = 100.0
writable = true
[tag.temperature]
unit = "degC"
[tag.rise]
unit = "delta_degC"
[tag.valve]
type = "bool"
writable = true
[tag.count]
type = "int"
writable = true
[tag.bare]
"""
HEAD = """
from statemachine import State
from tagwerk import Input, Machine, Output, Parameter

class Tank(Machine):
    on = State(initial=True)
"""


@pytest.fixture(autouse=True)
def untouched_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def check(code: Path, body: str, machine: str = 'class = "tank:Tank"', more: str = "") -> list[ConfigError]:
    """The errors of a plant with one machine whose class has this body."""
    (code / "tank.py").write_text(HEAD + "".join(f"    {line}\n" for line in body.splitlines()))
    return check_file(code, f"{TAGS}\n[machine.tank]\n{machine}\n{more}")


def check_file(code: Path, text: str) -> list[ConfigError]:
    return inspect_plant(plantfile.parse(text, code / "plant.toml"), code)[0]


def only(errors: list[ConfigError]) -> ConfigError:
    assert len(errors) == 1, errors
    return errors[0]


def test_a_machine_that_fits_has_no_errors(code: Path) -> None:
    body = """
keep = ("seen",)
seen = 0
level = Input("level", unit="")
valve = Output("valve", safe=True)
count = Output("count", safe=3)
setpoint = Output("level", unit="", safe=50)
total = Output(type="int", unit="liter")
limit = Parameter(1.0, unit="delta_degC", low=0.1)
other = Input("tank.total")
"""
    assert check(code, body, more="[machine.tank.parameters]\nlimit = 2") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('x = Input("nothing")', "there is no such tag"),
        ('x = Output("nothing", safe=1)', "there is no such tag"),
        ('x = Output("valve")', "the output has no safe value"),
        ('x = Output("temperature", safe=1)', "the tag is not writable"),
        ('x = Output("valve", safe=1)', "the safe value does not fit: 1 is no bool"),
        ('x = Output("level", safe=101)', "the safe value does not fit: 101 percent is outside the tag's range"),
        ('x = Output("level", safe=None)', "the safe value does not fit: no value, or one that is not finite"),
        ('x = Output("count", safe=1.5)', "the safe value does not fit: 1.5 is not whole"),
        ('x = Output(safe=1)', "only an output with a tag has a safe value"),
        ('x = Output(type="double")', "there is no such type"),
        ('x = Output(type="bool", unit="bar")', "a bool has no unit"),
        ('x = Output(unit="parsnip")', "'parsnip' is not a unit"),
        ('x = Input("temperature", unit="bar")', "the tag's values cannot be converted to bar"),
        ('x = Input("temperature", unit="delta_degC")', "one is a difference, the other a temperature"),
        ('x = Input("rise", unit="degF")', "one is a difference, the other a temperature"),
        ('x = Input("valve", unit="bar")', "a bool tag has no unit"),
        ('x = Input("bare", unit="bar")', "the tag has no unit to convert from"),
        ('x = Parameter(1.0, low=2.0)', "the default does not fit: x: 1 is outside 2.."),
        ('x = Parameter(1.0, unit="parsnip")', "'parsnip' is not a unit"),
        ('x = Parameter(None)', "the default has a wrong type"),
        ('keep = ("x",)', "a new machine has no such attribute"),
        ('async def cycle(self, now_ns): ...', "a coroutine is never awaited here"),
        ('reset = on.to(on)', "every machine has this event already"),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_fit(code: Path, line: str, message: str) -> None:
    error = only(check(code, line))
    assert error.message.startswith(message)
    assert (error.file, error.line) == (str(code / "tank.py"), len(HEAD.splitlines()) + 1)
    assert error.expected


@pytest.mark.parametrize("unit", ["kelvin", "degF"])
def test_a_temperature_converts_and_a_difference_too(code: Path, unit: str) -> None:
    rise = unit if unit == "kelvin" else f"delta_{unit}"
    assert check(code, f'a = Input("temperature", unit="{unit}")\nb = Input("rise", unit="{rise}")') == []


def test_parameters_of_the_plant_file(code: Path) -> None:
    more = "[machine.tank.parameters]\nlimit = 11.0\nlevle = 1.0"
    errors = check(code, 'limit = Parameter(1.0, unit="bar", low=0.0, high=10.0)', more=more)
    assert [(error.key, error.message) for error in errors] == [
        ("machine.tank.parameters.limit", "limit: 11 is outside 0..10 bar"),
        ("machine.tank.parameters.levle", "the machine has no such parameter"),
    ]
    assert errors[1].expected == "limit"


def test_a_shared_process_is_refused(code: Path) -> None:
    error = only(check(code, "x = 1", machine='class = "tank:Tank"\nmode = "sync"'))
    assert (error.key, error.expected) == ("machine.tank.mode", '"async"')


def test_two_machines_on_one_output(code: Path) -> None:
    second = '[machine.other]\nclass = "tank:Tank"'
    error = only(check(code, 'valve = Output("valve", safe=False)', more=second))
    assert error.message == "machine other sets a tag that tank.valve sets already"


def test_a_published_tag_may_be_declared_if_it_agrees(code: Path) -> None:
    good = '[tag."tank.total"]\ntype = "int"\nunit = "liter"\nsource = "machine/tank"'
    assert check(code, 'total = Output(type="int", unit="liter")', more=good) == []
    assert inspect_plant(plantfile.load(_write(code, good)), code)[1] == []
    bad = '[tag."tank.total"]\ntype = "float"\nunit = "liter"\nsource = "machine/tank"'
    error = only(check(code, 'total = Output(type="int", unit="liter")', more=bad))
    assert (error.key, error.value, error.expected) == ('tag."tank.total".type', "float", "int")


def _write(code: Path, more: str) -> Path:
    path = code / "plant.toml"
    path.write_text(f'{TAGS}\n[machine.tank]\nclass = "tank:Tank"\n{more}')
    return path


class TestLoading:
    def broken(self, code: Path, text: str, class_path: str = "tank:Tank") -> ConfigError:
        (code / "tank.py").write_text(text)
        with pytest.raises(ConfigError) as raised:
            load_class(class_path, code)
        return raised.value

    def test_a_syntax_error(self, code: Path) -> None:
        error = self.broken(code, "x = 1\nclass Tank(:\n")
        assert (error.file, error.line, error.value) == (str(code / "tank.py"), 2, "class Tank(:")
        assert error.message.startswith("SyntaxError")

    def test_an_error_while_importing_names_the_users_line(self, code: Path) -> None:
        error = self.broken(code, "import json\n\njson.loads('{')\n")
        assert (error.file, error.line, error.value) == (str(code / "tank.py"), 3, "json.loads('{')")
        assert error.message.startswith("JSONDecodeError")

    def test_a_missing_library(self, code: Path) -> None:
        error = self.broken(code, "import no_such_library\n")
        assert (error.message, error.line) == ("ModuleNotFoundError: No module named 'no_such_library'", 1)

    def test_a_chart_that_is_wrong(self, code: Path) -> None:
        error = self.broken(code, HEAD + "    off = State(initial=True)\n")
        assert (error.message.partition(":")[0], error.line) == ("InvalidDefinition", 5)

    def test_code_that_leaves(self, code: Path) -> None:
        assert self.broken(code, "raise SystemExit(0)").message == "SystemExit: 0"

    @pytest.mark.parametrize(
        ("class_path", "message"),
        [
            ("pump:Pump", "there is no module pump"),
            ("tank:Pump", "the module has no Pump"),
            ("tank:Bare", "Bare is no machine"),
        ],
    )
    def test_a_class_that_cannot_be_reached(self, code: Path, class_path: str, message: str) -> None:
        text = HEAD + "\nclass Bare: ...\n"
        error = self.broken(code, text, class_path)
        assert error.message == message
        assert error.expected

    def test_a_name_that_the_standard_library_has(self, code: Path) -> None:
        (code / "json.py").write_text(HEAD)
        with pytest.raises(ConfigError, match="another module is called json"):
            load_class("json:Tank", code)

    def test_a_machine_that_does_not_come_to_life(self, code: Path) -> None:
        error = only(check(code, "def __init__(self):\n    super().__init__()\n    self.level + 1"))
        assert (error.key, error.line) == ("machine.tank.class", len(HEAD.splitlines()) + 3)
        assert error.message == "AttributeError: 'Tank' object has no attribute 'level'"


class TestReport:
    def test_a_class_without_states_has_one_and_its_errors_are_told(self, code: Path) -> None:
        (code / "tank.py").write_text(HEAD.replace("    on = State(initial=True)\n", '    o = Output("count")\n'))
        errors = check_file(code, f'{TAGS}\n[machine.tank]\nclass = "tank:Tank"\n')
        assert [error.message for error in errors] == ["the output has no safe value"]
        machine = load_class("tank:Tank", code)
        assert [state.id for state in machine.states] == ["running"]
        assert machine.build(Bench(machine)).state == "running"

    def test_errors_of_the_plant_file_are_not_ours_but_its_lines_are(self, code: Path) -> None:
        (code / "tank.py").write_text(HEAD)
        path = _write(code, "mode = 'sync'\n[tag.wrong]\nunit = 'parsnip'")
        found: dict[str, Any] = report(path, code)
        assert [(row["key"], row["line"]) for row in found["errors"]] == [
            ("machine.tank.mode", path.read_text().splitlines().index("mode = 'sync'") + 1)
        ]

    def test_tags_that_machines_publish(self, code: Path) -> None:
        (code / "tank.py").write_text(HEAD + '    total = Output(type="int", unit="liter", description="All of it")\n')
        assert report(_write(code, ""), code) == {
            "errors": [],
            "tags": [
                {
                    "name": "tank.total",
                    "type": "int",
                    "unit": "liter",
                    "source": "machine/tank",
                    "description": "All of it",
                }
            ],
        }
