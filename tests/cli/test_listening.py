"""The exchange's socket: answers leave at once."""

from __future__ import annotations

import asyncio
import socket

from isthmus.cli.listener import bound_socket


def test_what_the_exchange_writes_leaves_at_once() -> None:
    """Without it each small answer took 44 ms on loopback: its second part waited for an acknowledgement that was held back."""

    async def accepted() -> int:
        said: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bound_socket("127.0.0.1", 0)
        server = await asyncio.start_server(met, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await asyncio.wait_for(said, 5)
            writer.close()
            return found

    assert asyncio.run(accepted()) != 0
