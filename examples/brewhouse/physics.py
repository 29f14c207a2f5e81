"""Physics and control logic of the brewhouse: pure, no clock, no input or output.

Time enters only as `dt_s`, in simulated seconds. `plc.py` steps the model, `signals.py` says which of its attributes a
client sees. Both vessels hang on one heater contactor, and their temperature sensors on one input card: the faults of
contactor and card therefore concern both.
"""

import math
import random
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

AMBIENT_DEGC: Final = 20.0
WATER_DEGC: Final = 15.0
BOILING_DEGC: Final = 100.0
VESSEL_L: Final = 800.0
MAX_STEP_S: Final = 1.0  # half the shortest lag below: a longer Euler step would ring
NOISE_DEGC: Final = 0.01
REFERENCE_LEVEL_PCT: Final = 70.0  # heat rates and losses are given at this level
LOSS_S: Final = 3600.0  # time constant of cooling down to ambient
EVAPORATION_PER_S: Final = 0.28 / 60  # takes the full heater's power at about 109 degC: the lid is closed
HEATER_LAG_S: Final = 15.0
STIRRED_LAG_S: Final = 10.0
UNSTIRRED_LAG_S: Final = 40.0
FLOW_LAG_S: Final = 2.0
LOW_LEVEL_PCT: Final = 5.0
HEATED_LEVEL_PCT: Final = 10.0
FULL_LEVEL_PCT: Final = 95.0
PUMP_L_PER_MIN: Final = 80.0
FILL_L_PER_MIN: Final = 60.0
DRAIN_L_PER_MIN: Final = 100.0


class Phase(IntEnum):
    """What the brewhouse does, as the PLC sees it."""

    IDLE = 0
    HEATING = 1
    RESTING = 2
    TRANSFER = 3
    BOILING = 4
    TRIPPED = 5


@dataclass(slots=True)
class Faults:
    """What an operator of the simulator can break."""

    heater_contactor_stuck: bool = False
    sensor_frozen: bool = False
    sensor_drift: float = 0.0  # K per simulated minute
    valve_sticks: bool = False
    pump_trip: bool = False
    estop_pressed: bool = False
    clock_offset_s: float = 0.0  # shifts the SourceTimestamps, not the process


@dataclass(slots=True)
class PlcStatus:
    """The PLC about itself."""

    watchdog: bool = False
    write_count: int = 0
    scan_count: int = 0
    scan_time_ms: float = 0.0
    speed: float = 1.0
    version: str = "brewhouse 1"


@dataclass(slots=True)
class Sensor:
    """A thermometer: lags, and freezes or drifts on demand."""

    lagged: float
    drift: float = 0.0
    value: float = 0.0

    def __post_init__(self) -> None:
        self.value = self.lagged

    def follow(self, true_degc: float, lag_s: float, noise: float, dt_s: float) -> None:
        """Measure the true temperature for `dt_s`."""
        self.lagged += (true_degc - self.lagged) * dt_s / lag_s
        self.value = self.lagged + self.drift + noise

    def suffer(self, faults: Faults, dt_s: float) -> None:
        """Drift away for `dt_s`; the end of the fault stands for a calibration."""
        self.drift = self.drift + faults.sensor_drift * dt_s / 60 if faults.sensor_drift else 0.0


@dataclass(slots=True)
class Loop:
    """A PI temperature loop with feed-forward of the losses; MAN keeps the operator's output."""

    setpoint: float
    heat_k_per_s: float
    auto: bool = True
    output: float = 0.0
    integral: float = 0.0

    GAIN = 25.0  # percent per K
    INTEGRAL_S = 900.0
    INTEGRAL_PCT = 30.0

    def update(self, measured: float, *, enabled: bool, dt_s: float) -> None:
        """Compute the output in percent; in MAN only follow it, so that the way back to AUTO is without a bump."""
        error = self.setpoint - measured
        proportional = self.GAIN * error + 100 * (self.setpoint - AMBIENT_DEGC) / (LOSS_S * self.heat_k_per_s)
        if not self.auto:
            self.output = _clamp(self.output, 0.0, 100.0)
            self.integral = _clamp(self.output - proportional, -self.INTEGRAL_PCT, self.INTEGRAL_PCT)
            return
        if not enabled:
            self.output = 0.0
            return
        demand = proportional + self.integral
        self.output = _clamp(demand, 0.0, 100.0)
        # No integral while the heater is at a limit: it would come back as overshoot after a long ramp.
        if 0.0 < demand < 100.0:
            step = self.GAIN * error * dt_s / self.INTEGRAL_S
            self.integral = _clamp(self.integral + step, -self.INTEGRAL_PCT, self.INTEGRAL_PCT)


@dataclass(slots=True)
class Vessel:
    """A heated vessel with its sensor and its loop."""

    temperature: float
    level: float
    loop: Loop
    heater: float = 0.0  # percent of its power, as it reaches the product
    sensor: Sensor = field(init=False)

    def __post_init__(self) -> None:
        self.sensor = Sensor(self.temperature)

    @property
    def pressure(self) -> float:
        """Steam pressure under the lid in bar (gauge), linear near 100 degC."""
        return max(0.0, (self.temperature - BOILING_DEGC) / 24)

    def heat(self, power_pct: float, dt_s: float) -> None:
        """Heat with `power_pct`, lose to the room, evaporate."""
        self.heater += (power_pct - self.heater) * dt_s / HEATER_LAG_S
        mass = max(self.level, LOW_LEVEL_PCT) / REFERENCE_LEVEL_PCT
        gained = self.heater / 100 * self.loop.heat_k_per_s
        lost = (self.temperature - AMBIENT_DEGC) / LOSS_S
        evaporated = max(0.0, self.temperature - BOILING_DEGC) * EVAPORATION_PER_S
        self.temperature += (gained - lost - evaporated) / mass * dt_s
        self.level = max(0.0, self.level - evaporated * 0.1 * dt_s)

    def add(self, volume_l: float, degc: float) -> None:
        """Take in `volume_l` of `degc`, mixed at once."""
        held_l = self.level / 100 * VESSEL_L
        if held_l + volume_l > 0:
            self.temperature = (held_l * self.temperature + volume_l * degc) / (held_l + volume_l)
        self.level = _clamp((held_l + volume_l) / VESSEL_L * 100, 0.0, 100.0)

    def take(self, volume_l: float) -> float:
        """Give off up to `volume_l`; returns what there was."""
        taken_l = min(volume_l, self.level / 100 * VESSEL_L)
        self.level -= taken_l / VESSEL_L * 100
        return taken_l


@dataclass(slots=True)
class Valve:
    """A motor valve with end switches."""

    command: bool = False
    position: float = 0.0  # percent open

    TRAVEL_S = 8.0

    @property
    def open(self) -> bool:
        """The upper end switch."""
        return self.position >= 98.0

    @property
    def closed(self) -> bool:
        """The lower end switch."""
        return self.position <= 2.0

    def move(self, wanted: bool, faults: Faults, dt_s: float) -> None:
        """Travel towards `wanted`, unless it sticks."""
        if not faults.valve_sticks:
            way = 100 * dt_s / self.TRAVEL_S
            self.position = _clamp(self.position + (way if wanted else -way), 0.0, 100.0)


@dataclass(slots=True)
class Pump:
    """The wort pump with its run feedback, flow meter and totaliser."""

    command: bool = False
    running: bool = False
    flow: float = 0.0  # l/min
    pumped_l: float = 0.0

    @property
    def total(self) -> int:
        """The totaliser in full litres."""
        return int(self.pumped_l)


@dataclass(slots=True)
class Fermenter:
    """A fermenting tank under pressure, cooled by its jacket."""

    temperature: float = 18.0
    setpoint: float = 18.0
    cooling: float = 10.0  # percent
    level: float = 85.0
    co2_pressure: float = 0.6  # bar (gauge)
    gravity: float = 1.048
    sensor: Sensor = field(default_factory=lambda: Sensor(18.0))

    SPUNDING_BAR = 0.8
    FINAL_GRAVITY = 1.010
    FERMENTATION_S = 3 * 86400.0

    def step(self, noise: float, dt_s: float) -> None:
        """Ferment for `dt_s`."""
        vigour = (self.gravity - self.FINAL_GRAVITY) / 0.038
        self.gravity -= (self.gravity - self.FINAL_GRAVITY) * dt_s / self.FERMENTATION_S
        self.sensor.follow(self.temperature, 20.0, noise, dt_s)
        self.cooling = _clamp(30 * (self.sensor.value - self.setpoint) + 10 * vigour, 0.0, 100.0)
        self.temperature += (0.02 * vigour - 0.2 * self.cooling / 100) / 60 * dt_s
        self.co2_pressure += 0.001 * vigour / 60 * dt_s
        if self.co2_pressure > self.SPUNDING_BAR:
            self.co2_pressure = self.SPUNDING_BAR - 0.02


class Brewhouse:
    """The whole plant: mash tun, kettle, pump, valves, fermenter, interlocks."""

    def __init__(self, seed: int = 1) -> None:
        self.mash = Vessel(45.0, 70.0, Loop(45.0, heat_k_per_s=3.5 / 60))
        self.kettle = Vessel(60.0, 70.0, Loop(60.0, heat_k_per_s=4.0 / 60))
        self.stirrer = True
        self.stirrer_running = True
        self.pump = Pump()
        self.valve_in = Valve()
        self.valve_out = Valve()
        self.valve_drain = Valve()
        self.fermenter = Fermenter()
        self.faults = Faults()
        self.plc = PlcStatus()
        self.phase = Phase.IDLE
        self.estop = False
        self.heater_trip = False
        self.dry_run = False
        self._random = random.Random(seed)

    def step(self, dt_s: float, *, watchdog_ok: bool = True) -> None:
        """Advance by `dt_s` simulated seconds, in steps of at most `MAX_STEP_S`.

        Args:
            dt_s: simulated seconds.
            watchdog_ok: False once the link has let the watchdog stand still for too long: the heaters trip, and
                come back by themselves when it moves again.
        """
        self.heater_trip = not watchdog_ok
        count = math.ceil(dt_s / MAX_STEP_S)
        for _ in range(count):
            self._interlocks()
            self._heat(dt_s / count)
            self._flow(dt_s / count)
            self.fermenter.step(self._noise(), dt_s / count)
        self.phase = self._phase()

    def _interlocks(self) -> None:
        self.estop = self.faults.estop_pressed
        if self.estop:
            # Released, nothing starts by itself: each drive and loop waits for a new command.
            for vessel in (self.mash, self.kettle):
                vessel.loop.auto, vessel.loop.output = False, 0.0
            for drive in (self.pump, self.valve_in, self.valve_out, self.valve_drain):
                drive.command = False
            self.stirrer = False
        self.stirrer_running = self.stirrer
        # The way back is higher than the way in, or the pump would chatter at the limit.
        limit = HEATED_LEVEL_PCT if self.dry_run else LOW_LEVEL_PCT
        self.dry_run = self.pump.command and self.mash.level < limit

    def _heat(self, dt_s: float) -> None:
        for vessel, stirred in ((self.mash, self.stirrer_running), (self.kettle, True)):
            lag_s = STIRRED_LAG_S if stirred else UNSTIRRED_LAG_S
            vessel.sensor.suffer(self.faults, dt_s)
            if not self.faults.sensor_frozen:
                vessel.sensor.follow(vessel.temperature, lag_s, self._noise(), dt_s)
            enabled = not (self.estop or self.heater_trip or vessel.level < HEATED_LEVEL_PCT)
            vessel.loop.update(vessel.sensor.value, enabled=enabled, dt_s=dt_s)
            power = vessel.loop.output if enabled else 0.0
            # A welded contactor ignores every interlock; the E-stop opens the main breaker before it.
            if self.faults.heater_contactor_stuck and not self.estop:
                power = 100.0
            vessel.heat(power, dt_s)

    def _flow(self, dt_s: float) -> None:
        self.valve_in.move(self.valve_in.command and self.mash.level < FULL_LEVEL_PCT, self.faults, dt_s)
        self.valve_out.move(self.valve_out.command, self.faults, dt_s)
        self.valve_drain.move(self.valve_drain.command, self.faults, dt_s)
        pump = self.pump
        blocked = self.faults.pump_trip or self.dry_run or self.kettle.level > FULL_LEVEL_PCT
        pump.running = pump.command and not blocked
        target = PUMP_L_PER_MIN * self.valve_out.position / 100 if pump.running else 0.0
        pump.flow += (target - pump.flow) * dt_s / FLOW_LAG_S
        if pump.flow < 0.05:  # the meter's low-flow cut-off
            pump.flow = target
        moved_l = self.mash.take(pump.flow / 60 * dt_s)
        pump.pumped_l += moved_l
        self.kettle.add(moved_l, self.mash.temperature)
        self.mash.add(FILL_L_PER_MIN * self.valve_in.position / 100 / 60 * dt_s, WATER_DEGC)
        self.kettle.take(DRAIN_L_PER_MIN * self.valve_drain.position / 100 / 60 * dt_s)

    def _phase(self) -> Phase:
        if self.estop or self.heater_trip:
            return Phase.TRIPPED
        if self.pump.flow > 1.0:
            return Phase.TRANSFER
        if self.kettle.sensor.value > BOILING_DEGC - 2 and self.kettle.heater > 5.0:
            return Phase.BOILING
        if not self.mash.loop.auto:
            return Phase.IDLE
        limit = 0.5 if self.phase is Phase.HEATING else 1.5
        return Phase.HEATING if self.mash.loop.setpoint - self.mash.sensor.value > limit else Phase.RESTING

    def _noise(self) -> float:
        return self._random.uniform(-NOISE_DEGC, NOISE_DEGC)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
