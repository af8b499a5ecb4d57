#!/usr/bin/env python3
"""A broker that misbehaves on command and writes down what it was sent, on the standard library alone.

The mode is read from a file for every connection:
  serve         CONNACK 0, answers pings and subscriptions
  close         accepts and closes, as a broker at max_connections does
  mute          reads and never answers
  connack:0x97  answers the CONNECT with this code and closes (3.x clients get return code 3)

With --proxy each connection must begin with a PROXY header, v1 or v2, read after the text of the PROXY protocol
specification and printed as one JSON line with the raw bytes.
"""

import argparse
import asyncio
import ipaddress
import json
import socket
import struct
import sys

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TLV_NAMES = {0x01: "alpn", 0x02: "authority", 0x03: "crc32c", 0x04: "noop", 0x05: "unique_id", 0x20: "ssl", 0x30: "netns"}
SSL_NAMES = {0x21: "version", 0x22: "cn", 0x23: "cipher", 0x24: "sig_alg", 0x25: "key_alg"}


class Broken(Exception):
    """The header does not follow the specification."""


def tlvs(data, names):
    found = {}
    while data:
        if len(data) < 3:
            raise Broken("TLV shorter than its header")
        kind, length = struct.unpack(">BH", data[:3])
        value, data = data[3:3 + length], data[3 + length:]
        if len(value) != length:
            raise Broken("TLV longer than the header")
        name = names.get(kind, f"{kind:#04x}")
        if name in found:
            raise Broken(f"TLV {name} twice")
        if name == "ssl":
            if length < 5:
                raise Broken("SSL TLV shorter than its fields")
            client, verify = struct.unpack(">BI", value[:5])
            found[name] = {"client": client, "verify": verify, **tlvs(value[5:], SSL_NAMES)}
        elif name in ("noop", "crc32c", "unique_id") or name.startswith("0x"):
            found[name] = value.hex()
        else:
            found[name] = value.decode("utf-8")
    return found


async def read_v1(reader, first):
    line = first
    while not line.endswith(b"\r\n"):
        if len(line) >= 107:
            raise Broken("v1 line over 107 bytes")
        line += await reader.readexactly(1)
    words = line[:-2].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return line, {"version": 1, "family": "UNKNOWN"}
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise Broken("v1 line without six words")
    wanted = 4 if words[1] == "TCP4" else 6
    if any(ipaddress.ip_address(word).version != wanted for word in words[2:4]):
        raise Broken("v1 family and address disagree")
    return line, {"version": 1, "family": words[1], "source": f"{words[2]}|{words[4]}", "target": f"{words[3]}|{words[5]}"}


async def read_v2(reader, first):
    head = first + await reader.readexactly(16 - len(first))
    if head[:12] != SIGNATURE:
        raise Broken("v2 signature")
    version_command, family, length = struct.unpack(">BBH", head[12:])
    if version_command >> 4 != 2 or version_command & 0x0F > 1:
        raise Broken("v2 version or command")
    rest = await reader.readexactly(length)
    header = {"version": 2, "command": "PROXY" if version_command & 1 else "LOCAL", "family": family}
    sizes = {0x00: 0, 0x11: 12, 0x21: 36}
    if family not in sizes or len(rest) < sizes[family]:
        raise Broken(f"v2 family {family:#x} with {len(rest)} bytes")
    size = sizes[family]
    if size:
        width = (size - 4) // 2
        source, target = (ipaddress.ip_address(rest[at:at + width]) for at in (0, width))
        source_port, target_port = struct.unpack(">HH", rest[2 * width:size])
        header.update(source=f"{source}|{source_port}", target=f"{target}|{target_port}")
    header["tlvs"] = tlvs(rest[size:], TLV_NAMES)
    return head + rest, header


async def read_proxy(reader):
    first = await reader.readexactly(6)
    return await (read_v1 if first == b"PROXY " else read_v2)(reader, first)


async def read_packet(reader):
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)


async def talk(options, mode, reader, writer):
    if options.proxy:
        raw, header = await read_proxy(reader)
        print(json.dumps({"header": header, "raw": raw.hex()}), flush=True)
    kind, body = await read_packet(reader)
    if kind != 0x10:
        raise Broken(f"first packet {kind:#x}")
    level = body[2 + struct.unpack(">H", body[:2])[0]]
    code = int(mode.partition(":")[2], 0) if mode.startswith("connack:") else 0
    if code and level < 5:
        code = 3
    writer.write(bytes([0x20, 3, 0, code, 0]) if level == 5 else bytes([0x20, 2, 0, code]))
    if code:
        return
    while True:
        kind, body = await read_packet(reader)
        if kind == 0xC0:
            writer.write(b"\xd0\0")
        elif kind == 0x82:
            writer.write(bytes([0x90, 4]) + body[:2] + b"\0\0" if level == 5 else bytes([0x90, 3]) + body[:2] + b"\0")
        elif kind == 0xE0:
            return


async def main(options):
    async def accepted(reader, writer):
        try:
            with open(options.mode_file, encoding="ascii") as file:
                mode = file.read().strip()
            if mode == "mute":
                while await reader.read(65536):
                    pass
            elif mode != "close":
                await talk(options, mode, reader, writer)
        except Broken as broken:
            print(json.dumps({"broken": str(broken)}), flush=True)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    host, _, port = options.bind.rpartition(":")
    await asyncio.start_server(accepted, host.strip("[]"), int(port), backlog=1024, family=socket.AF_UNSPEC)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--mode-file", required=True)
    parser.add_argument("--proxy", action="store_true")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except KeyboardInterrupt:
        pass
