"""A dispatcher of another kind: a plain list of services, one after the other, run by the plant's resources.

    python examples/workshop/service_list.py Polish Polish --input roughness=3 --output roughness:number

The plant must be up, with resources that offer the services. The order is the plant's, so it is listed and logged like
any other; what comes next says this script. Ended and started again with `--order ID` it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys

import tagwerk
from tagwerk.protocols.orders import (
    CREW,
    Asked,
    DispatchService,
    DispatchTask,
    GetTokens,
    Given,
    OpenOrder,
    OrderStarted,
    Token,
    Tokens,
)

TASK = "list"
WAIT_S = 10.0


def token_of(plant: tagwerk.Plant, order: str, number: int) -> Token:
    """Wait for the token of one service. `GetTokens` lets go of those before it."""
    while True:
        found = plant.query(CREW, GetTokens(order, number - 1, WAIT_S), Tokens, WAIT_S + 5.0)
        for token in found.tokens:
            if token.service_uuid == f"{order}-{number}":
                return token
        if found.state not in ("RUNNING", "PAUSED", "UNKNOWN"):
            sys.exit(f"{order} has ended: {found.state}")


def main() -> int:
    """Run the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="+", metavar="SERVICE")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--output", action="append", default=[], metavar="NAME:TYPE")
    parser.add_argument("--order", default="", metavar="ID", help="go on with this order")
    given = parser.parse_args()
    types = dict(one.split(":", 1) for one in given.output)
    values = {name: json.loads(text) for name, text in (one.split("=", 1) for one in given.input)}
    asked = tuple(Asked(name, type_) for name, type_ in types.items())
    with tagwerk.attach() as plant:
        order = given.order
        if not order:
            opened = plant.ask(CREW, OpenOrder("service list", 0, plant.user, plant.host))
            assert isinstance(opened, OrderStarted)
            order = opened.id
        print(order)
        plant.ask(CREW, DispatchTask(order, TASK, "list", TASK, False))
        for number, service in enumerate(given.services, 1):
            inputs = tuple(Given(name, types.get(name, "number"), value) for name, value in values.items())
            # May be said again: a service uuid that is known is not executed a second time.
            plant.ask(CREW, DispatchService(order, f"{order}-{number}", service, TASK, inputs, asked))
            token = token_of(plant, order, number)
            print(f"{service}: {token.failed or token.outputs}")
            if token.failed:
                plant.ask(CREW, DispatchTask(order, TASK, "list", TASK, True, (), token.failed))
                return 1
            values.update(token.outputs)
        plant.ask(CREW, DispatchTask(order, TASK, "list", TASK, True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
