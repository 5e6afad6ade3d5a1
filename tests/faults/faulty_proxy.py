"""A proxy process that a request to an HTTP server goes through, and fails in ways that networks and servers do.

    python faulty_proxy.py UPSTREAM_HOST UPSTREAM_PORT HOW EVERY

It prints its port, then spoils every EVERY-th connection: `drop` cuts it within the answer, `500` and `503` answer so
themselves, `slow` passes the answer on in small pieces with pauses.
"""

from __future__ import annotations

import asyncio
import itertools
import sys


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str) -> None:
    passed = 0
    while piece := await reader.read(256 if how == "slow" else 1 << 16):
        if how == "drop" and passed + len(piece) > 100:
            writer.write(piece[: max(100 - passed, 0)])
            await writer.drain()
            writer.transport.abort()
            return
        passed += len(piece)
        writer.write(piece)
        await writer.drain()
        if how == "slow":
            await asyncio.sleep(0.002)
    writer.close()


async def _main(host: str, port: int, how: str, every: int) -> None:
    numbers = itertools.count(1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoil = next(numbers) % every == 0
        try:
            if spoil and how.isdigit():
                await reader.readuntil(b"\r\n\r\n")
                head = f"HTTP/1.1 {how} Spoilt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                await writer.drain()
                writer.close()
                return
            up_reader, up_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(
                _pass_on(reader, up_writer, "whole"), _pass_on(up_reader, writer, how if spoil else "whole")
            )
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
