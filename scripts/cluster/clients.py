"""The clients of the test cluster, in a container of their own: idle ones, publishers, and one watcher per broker.

Commands come as JSON lines on standard input, each is answered by one JSON line:
  {"do": "open", "idle": N, "publishers": N}   opens them and waits until all are in
  {"do": "turnover", "rate": N}                every idle client disconnects and comes back, N a second
  {"do": "report"}                             counts, and the clients that each broker says it has
  {"do": "settle", "seconds": N}               no new messages; waits for those under way; names the ones that never came
  {"do": "publish"}                            new messages again

A client does what a good client does: it asks DNS each time, tries the addresses in random order, keeps its connection
alive, and comes back 0.2 to 1 s after it has lost it. The order is shuffled here because getaddrinfo sorts addresses
(RFC 6724, rule 9), which undoes round-robin on one subnet.

A message is complete when its PUBACK came and the publisher, which subscribes to its own topic, has got it back; until
then it is sent again on every new connection. So "lost" means: not delivered end to end, however often tried.
"""

import asyncio
import collections
import json
import random
import socket
import struct
import sys
import time

TIER = ("tidegate.test", 1883)
BROKERS = ("brokers.test", 1883)
CONNECT_TIMEOUT = 3.0
KEEP_ALIVE = 6
PUBLISH_EVERY = 0.2
# A publisher whose oldest message of this connection is not complete by then gives the connection up.
STALLED_AFTER = 5.0


def text(value):
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    assert len(body) < 16384
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return bytes([first]) + length + body


async def resolve(name, port):
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM, family=socket.AF_INET)
    return [entry[4] for entry in found]


class Refused(Exception):
    """A CONNACK that says no."""


class Connection:
    """One MQTT 3.1.1 connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.heard = time.monotonic()

    @classmethod
    async def open(cls, address, client_id):
        reader, writer = await asyncio.open_connection(*address)
        self = cls(reader, writer)
        try:
            body = text(b"MQTT") + bytes([4, 2]) + struct.pack(">H", KEEP_ALIVE) + text(client_id.encode())
            self.send(packet(0x10, body))
            first, body = await self.receive()
            if first != 0x20 or body[1] != 0:
                raise Refused()
        except BaseException:
            self.abort()
            raise
        return self

    def send(self, data):
        self.writer.write(data)

    async def receive(self):
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 128:
                break
        body = await self.reader.readexactly(length)
        self.heard = time.monotonic()
        return first, body

    def abort(self):
        self.writer.transport.abort()

    async def keep_alive(self):
        """Pings; ends when the other side has been silent for too long."""
        while time.monotonic() - self.heard < 1.5 * KEEP_ALIVE:
            await asyncio.sleep(KEEP_ALIVE / 2)
            self.send(b"\xc0\0")

    async def life(self, handle):
        """Receives until the connection ends, for whatever reason."""
        async def receiving():
            while True:
                handle(self, *await self.receive())
        tasks = [asyncio.ensure_future(receiving()), asyncio.ensure_future(self.keep_alive())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.abort()


class Crowd:
    def __init__(self):
        self.failed = collections.Counter()
        self.lost_connections = 0
        self.attempts = 0
        self.clients = []
        self.publishers = []
        self.publishing = True
        self.brokers = {}

    async def connect(self, client_id):
        """Tries all addresses in turn until one lets it in."""
        while True:
            try:
                addresses = await resolve(*TIER)
            except OSError:
                self.failed["dns"] += 1
                addresses = []
            random.shuffle(addresses)
            for address in addresses:
                self.attempts += 1
                try:
                    return await asyncio.wait_for(Connection.open(address, client_id), CONNECT_TIMEOUT)
                except (asyncio.TimeoutError, TimeoutError):
                    self.failed["timeout"] += 1
                except asyncio.IncompleteReadError:
                    self.failed["closed"] += 1
                except Refused:
                    self.failed["connack"] += 1
                except ConnectionResetError:
                    self.failed["reset"] += 1
                except OSError as error:
                    self.failed[type(error).__name__] += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))

    def is_open(self):
        return sum(client.open for client in self.clients + self.publishers)

    async def watch(self):
        """Asks each broker, past the tier, for the number of its clients."""
        watched = {}
        while True:
            try:
                addresses = await resolve(*BROKERS)
            except OSError:
                addresses = []
            for address in addresses:
                if address not in watched or watched[address].done():
                    watched[address] = asyncio.ensure_future(self.watch_one(address))
            await asyncio.sleep(0.5)

    async def watch_one(self, address):
        def handle(_, first, body):
            if first >> 4 == 3:
                self.brokers[address[0]] = int(body[2 + struct.unpack(">H", body[:2])[0]:]) - 1
        try:
            connection = await asyncio.wait_for(Connection.open(address, f"watch-{random.getrandbits(32):x}"), 2)
            connection.send(packet(0x82, b"\0\1" + text(b"$SYS/broker/clients/connected") + b"\0"))
            await connection.life(handle)
        except (OSError, Refused, asyncio.TimeoutError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self.brokers.pop(address[0], None)


class Idle:
    def __init__(self, crowd, number):
        self.crowd, self.name = crowd, f"idle-{number}"
        self.connection = None
        self.open = False
        self.leaving = False

    async def run(self):
        while True:
            self.connection = await self.crowd.connect(self.name)
            self.open = True
            await self.connection.life(lambda *_: None)
            self.open = False
            if self.leaving:
                self.leaving = False
                continue
            self.crowd.lost_connections += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))

    def leave(self):
        if self.open:
            self.leaving = True
            self.connection.send(b"\xe0\0")
            self.connection.writer.close()


class Publisher:
    def __init__(self, crowd, number):
        self.crowd, self.name = crowd, f"publisher-{number}"
        self.topic = f"qos1/{number}".encode()
        self.open = False
        self.next = 1
        self.complete = 0
        # number -> [acknowledged, came back]
        self.waiting = {}

    async def run(self):
        while True:
            connection = await self.crowd.connect(self.name)
            self.open = True
            publishing = asyncio.ensure_future(self.publish(connection))
            await connection.life(self.handle)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            self.open = False
            self.crowd.lost_connections += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))

    def message(self, number, again):
        packet_id = struct.pack(">H", (number - 1) % 65535 + 1)
        return packet(0x3A if again else 0x32, text(self.topic) + packet_id + struct.pack(">Q", number))

    async def publish(self, connection):
        connection.send(packet(0x82, b"\0\1" + text(self.topic) + b"\1"))
        started = time.monotonic()
        for number in sorted(self.waiting):
            self.waiting[number] = [False, False, started]
            connection.send(self.message(number, True))
        while True:
            oldest = min((entry[2] for entry in self.waiting.values()), default=time.monotonic())
            if time.monotonic() - oldest > STALLED_AFTER:
                connection.abort()
                return
            if self.crowd.publishing:
                number = self.next
                self.next += 1
                self.waiting[number] = [False, False, time.monotonic()]
                connection.send(self.message(number, False))
            await asyncio.sleep(PUBLISH_EVERY)

    def handle(self, connection, first, body):
        kind = first >> 4
        if kind == 4:
            packet_id = struct.unpack(">H", body)[0]
            for number in self.waiting:
                if (number - 1) % 65535 + 1 == packet_id:
                    self.note(number, 0)
                    break
        elif kind == 3:
            start = 2 + struct.unpack(">H", body[:2])[0]
            connection.send(packet(0x40, body[start:start + 2]))
            self.note(struct.unpack(">Q", body[start + 2:])[0], 1)

    def note(self, number, part):
        entry = self.waiting.get(number)
        if entry is None:
            return
        entry[part] = True
        if entry[0] and entry[1]:
            del self.waiting[number]
            self.complete += 1


class Commands:
    def __init__(self):
        self.crowd = Crowd()
        self.tasks = [asyncio.ensure_future(self.crowd.watch())]

    async def open(self, command):
        crowd = self.crowd
        for kind, into, count in ((Idle, crowd.clients, command["idle"]), (Publisher, crowd.publishers, command["publishers"])):
            for _ in range(count):
                client = kind(crowd, len(into))
                into.append(client)
                self.tasks.append(asyncio.ensure_future(client.run()))
                await asyncio.sleep(1 / 200)
        return self.report()

    async def turnover(self, command):
        for client in list(self.crowd.clients):
            client.leave()
            await asyncio.sleep(1 / command["rate"])
        return self.report()

    def report(self):
        crowd = self.crowd
        return {
            "open": crowd.is_open(), "wanted": len(crowd.clients) + len(crowd.publishers), "attempts": crowd.attempts,
            "failed": sum(crowd.failed.values()), "why": dict(crowd.failed), "lost_connections": crowd.lost_connections,
            "complete": sum(publisher.complete for publisher in crowd.publishers),
            "under_way": sum(len(publisher.waiting) for publisher in crowd.publishers),
            "brokers": dict(sorted(crowd.brokers.items())),
        }

    async def settle(self, command):
        self.crowd.publishing = False
        until = time.monotonic() + command["seconds"]
        while self.report()["under_way"] and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return self.report()

    async def answer(self, command):
        match command["do"]:
            case "open":
                return await self.open(command)
            case "turnover":
                return await self.turnover(command)
            case "settle":
                return await self.settle(command)
            case "publish":
                self.crowd.publishing = True
        return self.report()


async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    commands = Commands()
    while line := await reader.readline():
        print(json.dumps(await commands.answer(json.loads(line))), flush=True)


asyncio.run(main())
