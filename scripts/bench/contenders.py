"""The programs that are measured: each started with one worker on one core, stopped after each measurement."""

import base64
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from experiment.tier import wait_for

HERE = pathlib.Path(__file__).parent
# The load, and everything that is not measured, is on the first core that we may use, the contender on the last.
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, CONTENDER_CORE = CORES[0], CORES[-1]
PLAIN_PORT, TLS_PORT, RSA_PORT = 1883, 8883, 8884
ADDRESS = "127.0.10.1"
PEERS = 2


def endpoints(count):
    """Addresses of the stand-in brokers."""
    return [f"127.0.20.{1 + index % 200}:{1883 + index // 200}" for index in range(count)]


def make_secrets(folder):
    """A P-256 and an RSA certificate, as files for everybody, and a gossip key."""
    for name, kind in (("p256", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["rsa:2048"])):
        command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "30", "-subj", "/CN=bench.example"]
        command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        subprocess.run(command, check=True, capture_output=True)
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)
    keys = folder / "gossip.keys"
    keys.write_text(base64.b64encode(random.SystemRandom().randbytes(32)).decode() + "\n")
    keys.chmod(0o600)


def fill(template, **values):
    text = (HERE / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


class Process:
    """A contender that runs: its process identifiers, and where it is."""

    address = ADDRESS

    def __init__(self, folder, name, command, core=CONTENDER_CORE, environment=None):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], stdout=log, stderr=log, env=os.environ | (environment or {})
            )

    def pids(self):
        return [self.process.pid]

    def workers(self):
        """The tasks that move bytes."""
        return self.pids()

    def port(self, tls, rsa=False):
        return PLAIN_PORT if tls == "off" else RSA_PORT if rsa else TLS_PORT

    def wait(self):
        wait_for(f"{self.name} lets a client through (see {self.log})", self.lets_through)

    def lets_through(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        with socket.create_connection((self.address, PLAIN_PORT), timeout=1) as client:
            client.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01r")
            return client.recv(4) == b"\x20\x02\x00\x00"

    def rss(self):
        """Resident bytes of the processes that serve."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Haproxy(Process):
    def __init__(self, folder, servers, buffer):
        lines = "\n".join(f"    server b{index} {server}" for index, server in enumerate(servers))
        config = folder / "haproxy.cfg"
        config.write_text(fill("haproxy.cfg", FOLDER=folder, ADDRESS=ADDRESS, SERVERS=lines, BUFFER=buffer))
        environment = {"OPENSSL_CONF": str(HERE / "openssl.cnf")}
        super().__init__(folder, "haproxy", ["haproxy", "-db", "-f", str(config)], environment=environment)


class Nginx(Process):
    def __init__(self, folder, servers, buffer):
        lines = "\n".join(f"        server {server};" for server in servers)
        config = folder / "nginx.conf"
        config.write_text(fill("nginx.conf", FOLDER=folder, ADDRESS=ADDRESS, SERVERS=lines, BUFFER=buffer))
        environment = {"OPENSSL_CONF": str(HERE / "openssl.cnf")}
        super().__init__(folder, "nginx", ["nginx", "-e", "stderr", "-c", str(config)], environment=environment)

    def pids(self):
        """The worker: the master only waits."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]


class Tidegate(Process):
    def __init__(self, folder, servers, name="tidegate", binary=None, index=0, core=CONTENDER_CORE, members=1 + PEERS):
        self.address = f"127.0.10.{1 + index}"
        self.members, self.servers = members, servers
        listed = ", ".join(f'"{server}"' for server in servers)
        # A seed that is not there costs nothing; ourselves as the only one is nobody.
        seeds = ", ".join(f'"127.0.10.{1 + other}:7946"' for other in range(min(members, 3)))
        config = folder / f"{name}.toml"
        config.write_text(
            fill("tidegate.toml", FOLDER=folder, ADDRESS=self.address, NAME=f"lb-{1 + index}", SERVERS=listed, SEEDS=seeds)
        )
        super().__init__(folder, name, [binary or os.environ["TIDEGATE"], "run", "-c", str(config)], core=core)

    def workers(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(task.name) for task in tasks if re.fullmatch(r"tidegate-\d+", (task / "comm").read_text().strip())]

    def control(self):
        """The thread beside the data path."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("tidegate-contro"):
                return int(task.name)
        raise RuntimeError("no control thread")

    def wait(self):
        super().wait()
        wait_for(f"{self.name} sees all endpoints", lambda: self.eligible() == len(self.servers))
        wait_for(f"{self.name} sees all members", lambda: self.api("status")["members"] == self.members)

    def eligible(self):
        return sum(endpoint["eligible"] for endpoint in self.api("pools")["pools"][0]["endpoints"])

    def api(self, what):
        with urllib.request.urlopen(f"http://{self.address}:9090/api/v1/{what}", timeout=5) as answer:
            return json.load(answer)


class Direct:
    """No proxy: what the load can do by itself."""

    name = "direct"

    def __init__(self, servers):
        self.address, self.plain = servers[0].split(":")

    def pids(self):
        return []

    def port(self, tls, rsa=False):
        return int(self.plain)

    def wait(self):
        pass

    def stop(self):
        pass


def start(name, folder, servers, buffers):
    """`buffers`: what a load suggests to the contenders whose buffers are settings."""
    if name == "direct":
        return Direct(servers)
    if name == "haproxy":
        return Haproxy(folder, servers, buffers["haproxy"])
    if name == "nginx":
        return Nginx(folder, servers, buffers["nginx"])
    if name == "tidegate":
        return Tidegate(folder, servers)
    if name == "tidegate-b":
        return Tidegate(folder, servers, name, os.environ["TIDEGATE_B"])
    raise ValueError(f"no such contender: {name}")


def start_peers(folder, servers, count=PEERS):
    """Members without load, on the load's core: gossip is a part of what is measured."""
    peers = []
    for index in range(1, count + 1):
        peers.append(Tidegate(folder, servers, f"tidegate-peer-{index}", index=index, core=LOAD_CORE))
    return peers
