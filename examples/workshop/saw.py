"""The smallest resource: a saw with one service, `Cut`. `python examples/workshop/saw.py [URL]`, until Ctrl-C."""

import asyncio
import sys

from asyncua import Node, Server, ua
from model import DEMO, Fields, Model, new_server, quiet

URL = sys.argv[1] if sys.argv[1:] else "opc.tcp://127.0.0.1:4848"
MODULE = "urn:example:saw"
IDLE = 4
BOARD: Fields = (("length", "Double"),)
SYNC_RESULT = "ServiceExecutionSyncResultDataType"
CUT_RESULT: Fields = (
    ("ServiceResultMessage", "String"),
    ("ServiceResultCode", "Int32"),
    ("ServiceExecutionStatus", "ServiceExecutionStatus"),  # 0 done, 1 failed
    ("board", "Board"),  # what the service gives, named as the order calls it
)


class Queue:
    """Who comes first is first; an empty queue is one empty element."""

    def __init__(self, variable: Node) -> None:
        self._variable = variable
        self._elements: list[ua.Queue_Data_Type] = []

    async def add(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        """Put an element at the end."""
        self._elements.append(element.Value)
        return await self._show()

    async def remove(self, _parent: ua.NodeId, element: ua.Variant) -> list[ua.Variant]:
        """Take out the element with the same client and service."""
        key = (element.Value.Client_Identifier, element.Value.Service_UUID)
        self._elements = [one for one in self._elements if (one.Client_Identifier, one.Service_UUID) != key]
        return await self._show()

    async def _show(self) -> list[ua.Variant]:
        for place, one in enumerate(self._elements, 1):
            one.Entry_Number = ua.Int16(place)
        value = list(self._elements) or ua.Queue_Data_Type()
        await self._variable.write_value(ua.Variant(value, ua.VariantType.ExtensionObject))
        return []


async def cut(_parent: ua.NodeId, board: ua.Variant) -> list[ua.Variant]:
    """Do the service: it takes half a second, and the answer tells that it is done."""
    await asyncio.sleep(0.5)
    shorter = ua.Board(length=ua.Double(board.Value.length - 100))
    done = ua.CutResult("cut", ua.Int32(0), ua.ServiceExecutionStatus(0), shorter)
    return [ua.Variant(done, ua.VariantType.ExtensionObject)]


async def build(server: Server) -> None:
    """Put types, queue, state and service into the server."""
    model = Model(server, MODULE)
    await model.build()
    await model.struct(DEMO, "Board", BOARD)
    parent = server.get_node(model.types[SYNC_RESULT])  # by its parent a client knows that it is synchronous
    await model.struct(MODULE, "CutResult", CUT_RESULT, parent)
    await server.load_data_type_definitions()

    module = await model.object(server.nodes.objects, "SawModule", "SawModule")
    line = await model.object(await model.object(module, "Queue", "Queue"), "ServiceQueue", "ServiceQueue")
    empty = ua.Queue_Data_Type()
    queue = Queue(await model.variable(line, "queue_variable", "queue_variable", empty, "Queue_Data_Type"))
    element: Fields = (("element", "Queue_Data_Type"),)
    await model.method(line, "add_queue_element", "add", queue.add, element)
    await model.method(line, "remove_queue_element", "remove", queue.remove, element)
    state = await model.object(module, "State", "State")
    await (await model.variable(state, "AssetState", "AssetState", IDLE, "AssetStateType")).set_writable()
    services = await model.object(module, "Services", "Services")
    await model.method(services, "Cut", "Cut", cut, (("board", "Board"),), (("Results", "CutResult"),))


async def main() -> None:
    """Build it and listen."""
    quiet()
    server = await new_server(URL, "saw")
    await build(server)
    await server.start()
    print(f"saw {URL}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
