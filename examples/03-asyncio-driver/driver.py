"""The session without our loop: a plugin on asyncio, in some forty lines.

The session owns no socket, so any driver will do: read, `receive`, act, write `outgoing`.
"""

import asyncio
import os
import socket

from nri_inject.api import (
    ConfigureRequest,
    ConfigureResponse,
    CreateContainerRequest,
    CreateContainerResponse,
    Event,
    RegisterPluginRequest,
    SynchronizeRequest,
    SynchronizeResponse,
)
from nri_inject.wire import Call, Role, Session


def serve_call(session: Session, call: Call) -> None:
    match call.request:
        case ConfigureRequest():
            session.answer(call, ConfigureResponse(events=1 << (Event.CREATE_CONTAINER - 1)))
        case SynchronizeRequest() as request:
            session.answer(call, SynchronizeResponse(more=request.more))
        case CreateContainerRequest() as request:
            response = CreateContainerResponse()
            response.adjust.env.add(key="LOOP", value=f"asyncio for {request.container.name}")
            session.answer(call, response)


async def main(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    session = Session(Role.PLUGIN)
    session.call("RegisterPlugin", RegisterPluginRequest(plugin_name="asyncio", plugin_idx="20"))
    while True:
        writer.write(session.outgoing())
        await writer.drain()
        data = await reader.read(65536)
        for event in session.receive(data):
            if isinstance(event, Call):
                serve_call(session, event)
        if not data:
            return


asyncio.run(main(socket.socket(fileno=int(os.environ["NRI_PLUGIN_SOCKET"]))))
