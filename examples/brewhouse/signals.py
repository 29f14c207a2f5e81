"""What the PLC shows: node, data type, range, unit, and where in the model the value lives.

The NodeId of a signal is `nsu=urn:tagwerk:brewhouse;s=<node>`. `tags.csv` names the signals that become tags.
"""

import ctypes
from dataclasses import dataclass
from enum import Enum, auto
from operator import attrgetter
from typing import Final

from physics import Brewhouse

Value = float | int | bool | str
ADC_STEPS: Final = 65535  # a 16-bit converter over the signal's range


class Kind(Enum):
    """How a value is encoded."""

    ANALOG = auto()  # Float, in steps of the 16-bit converter
    RAW = auto()  # UInt16, the converter's count itself
    FLOAT = auto()
    BOOL = auto()
    INT32 = auto()
    INT64 = auto()
    STRING = auto()


@dataclass(frozen=True, slots=True)
class Signal:
    """One node of the PLC."""

    node: str
    path: str  # attribute path in the model
    kind: Kind
    low: float = 0.0
    high: float = 100.0
    unit: str = ""
    writable: bool = False

    def read(self, model: Brewhouse) -> Value:
        """Returns the value as it goes over the wire."""
        return self.shown(attrgetter(self.path)(model))

    def shown(self, value: Value) -> Value:
        """Returns a value of the model as it goes over the wire."""
        match self.kind:
            case Kind.ANALOG | Kind.RAW:
                count = min(max(round((float(value) - self.low) / (self.high - self.low) * ADC_STEPS), 0), ADC_STEPS)
                return (
                    count if self.kind is Kind.RAW else _float32(self.low + count * (self.high - self.low) / ADC_STEPS)
                )
            case Kind.FLOAT:
                return _float32(float(value))
            case Kind.INT32 | Kind.INT64:
                return int(value)
            case Kind.BOOL | Kind.STRING:
                return value

    def write(self, model: Brewhouse, value: Value) -> None:
        """Put a client's value into the model."""
        *parents, name = self.path.split(".")
        setattr(attrgetter(".".join(parents))(model) if parents else model, name, value)


def _float32(value: float) -> float:
    return ctypes.c_float(value).value


def _vessel(name: str, setpoint_high: float) -> tuple[Signal, ...]:
    return (
        Signal(f"{name}.temperature", f"{name}.sensor.value", Kind.ANALOG, -50.0, 200.0, "degC"),
        Signal(f"{name}.setpoint", f"{name}.loop.setpoint", Kind.FLOAT, 0.0, setpoint_high, "degC", writable=True),
        Signal(f"{name}.auto", f"{name}.loop.auto", Kind.BOOL, writable=True),
        Signal(f"{name}.output", f"{name}.loop.output", Kind.FLOAT, unit="percent", writable=True),
        Signal(f"{name}.heater", f"{name}.heater", Kind.ANALOG, unit="percent"),
        Signal(f"{name}.level", f"{name}.level", Kind.ANALOG, unit="percent"),
        Signal(f"raw.{name}_temperature", f"{name}.sensor.value", Kind.RAW, -50.0, 200.0),
        Signal(f"raw.{name}_level", f"{name}.level", Kind.RAW),
    )


def _valve(name: str) -> tuple[Signal, ...]:
    return (
        Signal(f"{name}.command", f"{name}.command", Kind.BOOL, writable=True),
        Signal(f"{name}.open", f"{name}.open", Kind.BOOL),
        Signal(f"{name}.closed", f"{name}.closed", Kind.BOOL),
        Signal(f"{name}.position", f"{name}.position", Kind.ANALOG, unit="percent"),
    )


def _fault(name: str, kind: Kind = Kind.BOOL, unit: str = "", limit: float = 0.0) -> Signal:
    return Signal(f"faults.{name}", f"faults.{name}", kind, -limit, limit, unit, writable=True)


FERMENTER: Final = (
    Signal("cellar.fermenter1.temperature", "fermenter.sensor.value", Kind.ANALOG, -50.0, 200.0, "degC"),
    Signal("cellar.fermenter1.setpoint", "fermenter.setpoint", Kind.FLOAT, 0.0, 30.0, "degC", writable=True),
    Signal("cellar.fermenter1.cooling", "fermenter.cooling", Kind.ANALOG, unit="percent"),
    Signal("cellar.fermenter1.level", "fermenter.level", Kind.ANALOG, unit="percent"),
    Signal("cellar.fermenter1.co2_pressure", "fermenter.co2_pressure", Kind.ANALOG, 0.0, 3.0, "bar"),
    Signal("cellar.fermenter1.gravity", "fermenter.gravity", Kind.ANALOG, 0.98, 1.12),
)

BREWHOUSE: Final = (
    *_vessel("mash", 100.0),
    Signal("mash.stirrer", "stirrer", Kind.BOOL, writable=True),
    Signal("mash.stirrer_running", "stirrer_running", Kind.BOOL),
    *_vessel("kettle", 110.0),
    Signal("kettle.pressure", "kettle.pressure", Kind.ANALOG, 0.0, 1.0, "bar"),
    Signal("pump.command", "pump.command", Kind.BOOL, writable=True),
    Signal("pump.running", "pump.running", Kind.BOOL),
    Signal("pump.flow", "pump.flow", Kind.ANALOG, 0.0, 120.0, "liter/minute"),
    Signal("pump.total", "pump.total", Kind.INT64, 0.0, 1e9, "liter"),
    Signal("raw.pump_flow", "pump.flow", Kind.RAW, 0.0, 120.0),
    *_valve("valve_in"),
    *_valve("valve_out"),
    *_valve("valve_drain"),
    Signal("phase", "phase", Kind.INT32, 0.0, 5.0),
    Signal("estop", "estop", Kind.BOOL),
    Signal("heater_trip", "heater_trip", Kind.BOOL),
    Signal("dry_run", "dry_run", Kind.BOOL),
    Signal("plc.watchdog", "plc.watchdog", Kind.BOOL, writable=True),
    Signal("plc.write_count", "plc.write_count", Kind.INT64, 0.0, 1e9),
    Signal("plc.scan_count", "plc.scan_count", Kind.INT64, 0.0, 1e12),
    Signal("plc.scan_time", "plc.scan_time_ms", Kind.FLOAT, 0.0, 100.0, "millisecond"),
    Signal("plc.speed", "plc.speed", Kind.FLOAT, 0.0, 1000.0),
    Signal("plc.version", "plc.version", Kind.STRING),
    _fault("heater_contactor_stuck"),
    _fault("sensor_frozen"),
    _fault("sensor_drift", Kind.FLOAT, "kelvin/minute", 10.0),
    _fault("valve_sticks"),
    _fault("pump_trip"),
    _fault("estop_pressed"),
    _fault("clock_offset_s", Kind.FLOAT, "second", 86400.0),
)
SIGNALS: Final = BREWHOUSE + FERMENTER
