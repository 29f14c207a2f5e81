"""The mash: four rests at rising temperatures, each confirmed by the brewer.

The PLC heats (its loop follows the setpoint); the machine gives it setpoints, counts each rest, and waits for the
brewer. Times are the plant's: the simulated PLC runs `speed` times as fast as the clock on the wall.
"""

from typing import Final

from statemachine import State

from tagwerk import Input, Machine, Output, Parameter

RESTS: Final = 4
COLD_DEGC: Final = 20.0  # below anything in the mash tun: the loop does not heat


class Mash(Machine):
    """Protein rest, maltose rest, saccharification, mash-out."""

    keep = ("rest", "rested_s")
    rest = 0  # the present one, from 0
    rested_s = 0.0  # how long it has lasted at its temperature, in the plant's seconds

    temperature = Input("brewhouse.mash.temperature", unit="degC", required=True)
    estop = Input("brewhouse.estop", required=True)
    heater_trip = Input("brewhouse.heater_trip", required=True)

    setpoint = Output("brewhouse.mash.setpoint", unit="degC", safe=COLD_DEGC)
    auto = Output("brewhouse.mash.auto", safe=True)  # the loop with a cold setpoint keeps the heater off; MAN would not
    stirrer = Output("brewhouse.mash.stirrer", safe=False)
    step = Output(type="int", description="Rest of the mash, 1 to 4; 0 while there is none")
    rest_remaining = Output(unit="second", description="Time left of this rest")

    rest_1_temperature = Parameter(52.0, unit="degC", low=30.0, high=80.0)
    rest_2_temperature = Parameter(63.0, unit="degC", low=30.0, high=80.0)
    rest_3_temperature = Parameter(72.0, unit="degC", low=30.0, high=80.0)
    rest_4_temperature = Parameter(78.0, unit="degC", low=30.0, high=80.0)
    rest_1_min = Parameter(10.0, unit="minute", low=0.0, high=240.0)
    rest_2_min = Parameter(35.0, unit="minute", low=0.0, high=240.0)
    rest_3_min = Parameter(20.0, unit="minute", low=0.0, high=240.0)
    rest_4_min = Parameter(5.0, unit="minute", low=0.0, high=240.0)
    tolerance = Parameter(0.5, unit="delta_degC", low=0.1, high=5.0)
    speed = Parameter(1.0, low=0.1, high=1000.0)

    idle = State(initial=True)
    heating = State()
    resting = State()
    rested = State()
    done = State()
    aborted = State()

    start = (
        idle.to(heating, cond="safe_to_heat")
        | done.to(heating, cond="safe_to_heat")
        | aborted.to(heating, cond="safe_to_heat")
    )
    confirm = rested.to(done, cond="last_rest") | rested.to(heating, unless="last_rest")
    abort = heating.to(aborted) | resting.to(aborted) | rested.to(aborted)
    _warm = heating.to(resting)
    _over = resting.to(rested)

    def safe_to_heat(self) -> bool:
        """Whether nothing is known that forbids heating; an unknown input forbids it."""
        return self.estop is False and self.heater_trip is False

    def last_rest(self) -> bool:
        """Whether the present rest is the last one."""
        return self.rest == RESTS - 1

    def cycle(self, now_ns: int) -> None:
        """Follow the schedule."""
        if self.state not in ("heating", "resting", "rested"):
            return
        if self.estop or self.heater_trip:
            self.log.warning("aborted: %s", "E-stop" if self.estop else "heaters tripped")
            self.abort()
            return
        self.setpoint = self.target  # each cycle: an operator may have changed the parameter
        if self.state == "heating" and self.temperature >= self.target - self.tolerance:
            self._warm()
        elif self.state == "resting":
            self.count_rest()

    def count_rest(self) -> None:
        """Count the time at temperature; what the mash spends too cold is not rest."""
        if self.temperature >= self.target - self.tolerance:
            self.rested_s += self.cycle_s * self.speed
        self.rest_remaining = max(0.0, self.duration_s - self.rested_s)
        if self.rested_s >= self.duration_s:
            self._over()

    @property
    def target(self) -> float:
        """Temperature of the present rest, degC."""
        temperatures = (
            self.rest_1_temperature,
            self.rest_2_temperature,
            self.rest_3_temperature,
            self.rest_4_temperature,
        )
        return temperatures[self.rest]

    @property
    def duration_s(self) -> float:
        """Length of the present rest, in the plant's seconds."""
        return 60.0 * (self.rest_1_min, self.rest_2_min, self.rest_3_min, self.rest_4_min)[self.rest]

    def before_start(self) -> None:
        """A new mash begins with the first rest."""
        self.rest = -1

    def on_enter_heating(self) -> None:
        """Heat up to the next rest."""
        self.rest += 1
        self.rested_s = 0.0
        self.step = self.rest + 1
        self.rest_remaining = self.duration_s
        self.setpoint = self.target
        self.auto = True
        self.stirrer = True
        self.write_again()  # after an E-stop the PLC's loop is in MAN, whatever was written before

    def on_enter_idle(self) -> None:
        """Nothing is under way; the outputs stay as they were found."""
        self.step = 0
        self.rest_remaining = 0.0

    def on_enter_done(self) -> None:
        """The mash is ready: heater and stirrer off."""
        self.end()

    def on_enter_aborted(self) -> None:
        """Heater and stirrer off, whatever they were."""
        self.end()

    def end(self) -> None:
        """Leave the plant safe."""
        self.to_safe()
        self.step = 0
        self.rest_remaining = 0.0
