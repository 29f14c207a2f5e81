"""What somebody may want of an order, and whether that can be done now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tagwerk.actors.orders.logic.life import Life, ServiceRun, ServiceState
from tagwerk.actors.orders.logic.pfdl import Program
from tagwerk.actors.orders.logic.pfdl.talk import OrderState
from tagwerk.actors.orders.logic.pfdl.values import misfits, type_of
from tagwerk.protocols.errors import Refused, RefusedCode
from tagwerk.protocols.message import Message

WORDS_LIMIT: Final = 10_000
"""Characters of a name or a reason."""
NUMBER_LIMIT: Final = 1 << 53


def refuse_unbounded(message: Message) -> None:
    """Check the names, reasons and numbers of a message, whoever sent it; an order's text has a bound of its own.

    Raises:
        Refused: One is too long or too large to be stored and shown.
    """
    for key in message.__struct_fields__:
        value = getattr(message, key)
        if isinstance(value, str) and key != "text" and len(value) > WORDS_LIMIT:
            raise Refused(RefusedCode.BAD_VALUE, f"`{key}` has {len(value)} characters; at most {WORDS_LIMIT}")
        if isinstance(value, int) and abs(value) > NUMBER_LIMIT:
            raise Refused(RefusedCode.BAD_VALUE, f"`{key}` is {value}; at most {NUMBER_LIMIT} either way")


def refuse_control(life: Life, action: str) -> None:
    """Check what somebody wants of an order.

    Raises:
        Refused: It cannot be done now.
    """
    running, unknown = life.state == OrderState.RUNNING, life.unknown
    names = ", ".join(f"{one.number} {one.name}" for one in life.services.values() if one.state == "UNKNOWN")
    wrong = ""
    if action == "retry":
        if life.state != OrderState.FAILED or life.before is None:
            wrong = "only an order that failed because of a service can be tried again"
        elif unknown:
            wrong = f"nobody knows what came of service {names}: resolve that first"
    elif not running:
        wrong = "it has ended"
    elif action == "cancel" and unknown:
        wrong = f"nobody knows what came of service {names}: resolve that first"
    elif action in ("pause", "resume") and life.paused == (action == "pause"):
        wrong = "it is paused already" if life.paused else "it is not paused"
    if wrong:
        raise Refused(RefusedCode.CONFLICT, f"cannot {action}: {wrong}")


def unknown_service(life: Life, named: str) -> ServiceRun:
    """Give the service that somebody means, by number, uuid or name.

    Raises:
        Refused: There is no such service, or its outcome is not unknown.
    """
    services = life.services
    found = [one for one in services.values() if named in (str(one.number), one.uuid, one.name)]
    unknown = [one for one in found if one.state == ServiceState.UNKNOWN]
    if len(unknown) == 1:
        return unknown[0]
    known = ", ".join(f"{one.number} {one.name}" for one in services.values() if one.state == "UNKNOWN")
    if len(unknown) > 1:
        raise Refused(RefusedCode.CONFLICT, f"several services {named!r} are unknown: {known}; give the number")
    message = f"the outcome of a service {named!r} is not in doubt; in doubt: {known or 'none'}"
    raise Refused(RefusedCode.CONFLICT, message)


def wrong_outputs(one: ServiceRun, outputs: Mapping[str, Any], program: Program | None) -> Iterator[str]:
    """Tell what is wrong with what a service is said to have given.

    Args:
        one: The service.
        outputs: What it is said to have given.
        program: The order's; None: its types are not known.
    """
    asked = {each.name for each in one.outputs}
    for name in outputs:
        if name not in asked:
            yield f"`{name}`: {one.name} gives no such output"
    for each in one.outputs:
        if each.name not in outputs:
            yield f"`{each.name}`: say what it gave, a {each.type}"
        elif program is not None:
            for misfit in misfits(outputs[each.name], type_of(each.type), program.fields):
                yield f"`{each.name}`: {misfit}"
