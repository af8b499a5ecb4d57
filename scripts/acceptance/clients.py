#!/usr/bin/env python3
"""MQTT clients for the acceptance scripts, on the standard library alone.

  idle     opens N connections, says "ready", holds them until SIGTERM, then says how many were lost meanwhile
  rate     opens R connections a second for T seconds, holds each for a while
  resume   connects over TLS, leaves, comes back with the session that it was given
  hostile  sends what no client should and waits to be closed

Each prints one JSON object on standard output when it is done.
"""

import argparse
import asyncio
import collections
import functools
import json
import os
import signal
import socket
import ssl
import struct
import sys
import time

LEVELS = {"31": (b"MQIsdp", 3), "311": (b"MQTT", 4), "5": (b"MQTT", 5)}


def text(value):
    return struct.pack(">H", len(value)) + value


def connect_packet(version, client_id, keep_alive=60):
    name, level = LEVELS[version]
    body = text(name) + bytes([level, 0x02]) + struct.pack(">H", keep_alive)
    if level == 5:
        body += b"\0"
    body += text(client_id.encode())
    assert len(body) < 128
    return bytes([0x10, len(body)]) + body


def address(target):
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def tls_context(options):
    if not options.ca:
        return None
    context = ssl.create_default_context(cafile=options.ca)
    context.check_hostname = bool(options.sni)
    if options.alpn:
        context.set_alpn_protocols([options.alpn])
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    if options.tls_max == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class Failed(Exception):
    """Why a client did not get in."""


class Opener:
    """Opens MQTT connections to the targets in turn."""

    def __init__(self, options):
        self.options = options
        self.targets = [address(target) for target in options.target]
        self.context = tls_context(options)
        self.number = 0
        self.seen = {}

    async def open(self):
        number = self.number
        self.number += 1
        host, port = self.targets[number % len(self.targets)]
        local = (self.options.source, 0) if self.options.source else None
        reader, writer = await asyncio.open_connection(
            host, port, local_addr=local, ssl=self.context,
            server_hostname=self.options.sni or (host if self.context else None),
        )
        try:
            writer.write(connect_packet(self.options.version, f"c{os.getpid()}-{number}"))
            header = await reader.readexactly(2)
            body = await reader.readexactly(header[1])
        except BaseException:
            writer.transport.abort()
            raise
        if header[0] != 0x20:
            writer.transport.abort()
            raise Failed(f"packet {header[0]:#x}")
        if body[1] != 0:
            writer.transport.abort()
            raise Failed(f"connack {body[1]:#x}")
        self.note(writer)
        return reader, writer

    def note(self, writer):
        if self.seen:
            return
        self.seen = {"client": writer.get_extra_info("sockname")[:2]}
        if self.context:
            session = writer.get_extra_info("ssl_object")
            self.seen.update(tls=session.version(), cipher=session.cipher()[0], alpn=session.selected_alpn_protocol())

    async def attempt(self):
        """Gives (connection or None, seconds, why it failed)."""
        begin = time.monotonic()
        try:
            connection = await asyncio.wait_for(self.open(), self.options.timeout)
            return connection, time.monotonic() - begin, None
        except (asyncio.TimeoutError, TimeoutError):
            why = "timeout"
        except asyncio.IncompleteReadError:
            why = "closed"
        except Failed as failed:
            why = str(failed)
        except OSError as error:
            why = type(error).__name__
        return None, time.monotonic() - begin, why


async def resume(options):
    """Plain blocking sockets: asyncio has no way to offer a session."""
    host, port = address(options.target[0])
    context = tls_context(options)
    session = None
    for _ in range(2):
        with socket.create_connection((host, port), timeout=options.timeout) as plain:
            with context.wrap_socket(plain, server_hostname=options.sni or host, session=session) as secured:
                secured.sendall(connect_packet(options.version, f"r{os.getpid()}"))
                connack = secured.recv(64)
                session = secured.session
                report = {"client": secured.getsockname()[:2], "reused": secured.session_reused, "connack": connack.hex()}
                secured.sendall(b"\xe0\0")
    print("ready", json.dumps(report), flush=True)


def stop_event():
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def idle(options):
    stopped = stop_event()
    opener = Opener(options)
    why = collections.Counter()
    open_now = []
    lost = 0

    async def watch(reader):
        nonlocal lost
        try:
            while await reader.read(4096):
                pass
        except OSError:
            pass
        if not stopped.is_set():
            lost += 1

    gate = asyncio.Semaphore(options.parallel)
    watchers = []

    async def one():
        async with gate:
            connection, _, failure = await opener.attempt()
        if failure:
            why[failure] += 1
        else:
            open_now.append(connection)
            watchers.append(asyncio.ensure_future(watch(connection[0])))

    await asyncio.gather(*(one() for _ in range(options.count)))
    print("ready", json.dumps({"open": len(open_now), "failed": sum(why.values()), "why": why, **opener.seen}), flush=True)
    await stopped.wait()
    for _, writer in open_now:
        writer.write(b"\xe0\0")
        writer.close()
    print("done", json.dumps({"lost": lost}), flush=True)


async def rate(options):
    stopped = stop_event()
    opener = Opener(options)
    why = collections.Counter()
    took = []
    lost = 0

    async def one():
        nonlocal lost
        connection, seconds, failure = await opener.attempt()
        if failure:
            why[failure] += 1
            print("failed", json.dumps({"at": round(time.monotonic() - begin, 3), "why": failure}), flush=True)
            return
        took.append(seconds)
        reader, writer = connection
        try:
            if not await asyncio.wait_for(reader.read(1), options.hold):
                lost += 1
        except (asyncio.TimeoutError, TimeoutError):
            writer.write(b"\xe0\0")
        except OSError:
            lost += 1
        writer.close()

    begin = time.monotonic()
    tasks = []
    for number in range(int(options.rate * options.seconds)):
        wait = begin + number / options.rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        if stopped.is_set():
            break
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)
    took.sort()
    report = {
        "connected": len(took),
        "failed": sum(why.values()),
        "why": why,
        "lost": lost,
        "rate": round(len(tasks) / max(time.monotonic() - begin - options.hold, 0.001)),
        "p50_ms": round(took[len(took) // 2] * 1000, 1) if took else None,
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 1) if took else None,
        "max_ms": round(took[-1] * 1000, 1) if took else None,
    }
    print(json.dumps(report), flush=True)


@functools.cache
def client_hello():
    """Made once: loading the system's authorities takes longer than what is measured."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


async def send_hostile(kind, writer):
    if kind == "garbage":
        # The first byte is neither a CONNECT's (0x1.) nor a TLS record's (0x16): those have reasons of their own.
        writer.write(bytes([0x20 | os.urandom(1)[0]]) + os.urandom(63))
    elif kind == "half":
        packet = connect_packet("5", "half")
        writer.write(packet[: len(packet) // 2])
    elif kind == "tls":
        writer.write(client_hello())
    elif kind == "level":
        writer.write(connect_packet("5", "level").replace(b"MQTT\x05", b"MQTT\x09"))
    elif kind == "malformed":
        # The reserved flag is set (MQTT-3.1.2-3).
        packet = bytearray(connect_packet("311", "flag"))
        packet[9] |= 0x01
        writer.write(bytes(packet))
    elif kind == "publish":
        writer.write(b"\x30\x05\x00\x01ahi")
    elif kind == "huge":
        # 100 MB announced and, as far as anybody reads, sent.
        writer.write(b"\x10\x80\xc2\xd7\x2f" + text(b"MQTT") + b"\x05\x02\x00\x3c\x00" + text(b"x" * 65535))
        for _ in range(100):
            writer.write(b"x" * 1_000_000)
            await writer.drain()


async def hostile(options):
    """Opens `count` connections at once, sends, and waits for each to be closed."""
    host, port = address(options.target[0])

    async def one():
        reader, writer = await asyncio.open_connection(host, port)
        begin = time.monotonic()
        received = b""
        closed = True
        try:
            await send_hostile(options.kind, writer)
        except OSError:
            pass
        try:
            received = await asyncio.wait_for(reader.read(), options.timeout)
        except (asyncio.TimeoutError, TimeoutError):
            closed = False
        except OSError:
            pass
        writer.transport.abort()
        return closed, time.monotonic() - begin, received

    results = await asyncio.gather(*(one() for _ in range(options.count)))
    print(json.dumps({
        "closed": sum(closed for closed, _, _ in results),
        "open": sum(not closed for closed, _, _ in results),
        "max_s": round(max(seconds for _, seconds, _ in results), 2),
        "answers": sorted({received.hex() for _, _, received in results}),
    }), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--target", action="append", required=True, help="HOST:PORT, several are used in turn")
    common.add_argument("--version", choices=LEVELS, default="5")
    common.add_argument("--timeout", type=float, default=10)
    common.add_argument("--source", help="local address")
    common.add_argument("--ca", help="makes it TLS")
    common.add_argument("--sni")
    common.add_argument("--alpn")
    common.add_argument("--cert")
    common.add_argument("--key")
    common.add_argument("--tls-max", choices=["1.2", "1.3"], default="1.3")
    command = commands.add_parser("idle", parents=[common])
    command.add_argument("--count", type=int, default=1)
    command.add_argument("--parallel", type=int, default=50)
    command.set_defaults(run=idle)
    command = commands.add_parser("rate", parents=[common])
    command.add_argument("--rate", type=float, required=True)
    command.add_argument("--seconds", type=float, required=True)
    command.add_argument("--hold", type=float, default=1)
    command.set_defaults(run=rate)
    command = commands.add_parser("resume", parents=[common])
    command.set_defaults(run=resume)
    command = commands.add_parser("hostile", parents=[common])
    command.add_argument("--kind", required=True)
    command.add_argument("--count", type=int, default=1)
    command.set_defaults(run=hostile)
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    sys.exit(asyncio.run(given.run(given)))
