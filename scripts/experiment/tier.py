"""A tier of real processes on loopback addresses: tidegate or HAProxy, stand-in brokers, clients.

Every number is read from outside: connections are what the brokers count, not what tidegate says of itself.
"""

import base64
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

GOSSIP_PORT, ADMIN_PORT, MQTT_PORT = 7946, 9090, 1883
# Both ends of a connection through an instance are descriptors of it, and a process may open 20000.
PER_PROCESS = 18000


def now_ms():
    return time.time_ns() // 1_000_000


def wait_for(what, condition, seconds=15.0, step=0.02):
    """Polls until the condition holds; ends the experiment when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(step)


class Talker:
    """A loadgen process: one line in, one line out."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [os.environ["LOADGEN"], *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line or line.startswith("error"):
            raise RuntimeError(f"loadgen: {line or 'ended'}")
        return line

    def ask(self, line):
        self.say(line)
        return self.answer()

    def end(self):
        self.process.kill()
        self.process.wait()


def numbers(line):
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


class Crowd:
    """Clients, spread over as many processes as their number asks for."""

    def __init__(self, processes=1):
        self.parts = [Talker("clients", "--prefix", f"c{index}") for index in range(processes)]

    def all(self, line):
        for part in self.parts:
            part.ask(line)

    def targets(self, targets):
        # Each process begins at another instance.
        for index, part in enumerate(self.parts):
            shift = index % len(targets)
            part.ask("targets " + " ".join(targets[shift:] + targets[:shift]))

    def start(self, verb, first, second):
        """Begins `open COUNT RATE` or `churn RATE SECONDS`, shared by the processes."""
        parts = len(self.parts)
        for index, part in enumerate(self.parts):
            if verb == "open":
                count = first // parts + (index < first % parts)
                part.say(f"open {count} {second / parts}")
            else:
                part.say(f"churn {first / parts} {second}")

    def finish(self):
        answers = [numbers(part.answer()) for part in self.parts]
        total = {name: sum(answer[name] for answer in answers) for name in ("ok", "failed")}
        return total | {name: max(answer[name] for answer in answers) for name in ("ms", "p50_us", "p99_us")}

    def open(self, count, rate):
        self.start("open", count, rate)
        return self.finish()

    def churn(self, rate, seconds):
        self.start("churn", rate, seconds)
        return self.finish()

    def counts(self):
        answers = [numbers(part.ask("counts")) for part in self.parts]
        return {name: sum(answer[name] for answer in answers) for name in answers[0]}

    def end(self):
        for part in self.parts:
            part.end()


class Tier:
    """Instances and endpoints of one run, and its folder."""

    def __init__(self, instances, endpoints, *, kind="tidegate", connections=1000, pool="", health_ms=500,
                 start=None, closed=(), users=None, gossip=""):
        self.kind, self.pool, self.health_ms, self.gossip = kind, pool, health_ms, gossip
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-"))
        self.folder.chmod(0o755)
        self.instances = [f"127.0.10.{1 + index}" for index in range(instances)]
        self.endpoints = [f"127.0.20.{1 + index}:{MQTT_PORT}" for index in range(endpoints)]
        self.running = {}
        self.users = users or {}
        self.write_keys([new_key()])
        parts = 1 + connections // PER_PROCESS
        self.brokers = []
        for part in range(parts):
            mine = self.endpoints[part::parts]
            self.brokers.append((Talker("broker", "--series", str(self.folder / f"series-{part}.csv"), *mine), mine))
        for endpoint in closed:
            self.broker("close", endpoint)
        self.crowd = Crowd(1 + connections // PER_PROCESS)
        for index in range(instances if start is None else start):
            self.start_instance(index)
        self.ready(len(self.endpoints) - len(closed))

    # -- instances

    def write_keys(self, keys):
        path = self.folder / "gossip.keys"
        path.write_text("".join(key + "\n" for key in keys))
        path.chmod(0o644)

    def start_instance(self, index):
        address = self.instances[index]
        if self.kind == "haproxy":
            config = self.folder / f"haproxy-{index}.cfg"
            config.write_text(haproxy(address, self.endpoints, self.health_ms))
            words = ["haproxy", "-db", "-f", str(config)]
        else:
            config = self.folder / f"lb-{index + 1}.toml"
            config.write_text(self.configuration(index))
            words = [os.environ["TIDEGATE"], "run", "-c", str(config)]
        log = open(self.folder / f"lb-{index + 1}.log", "a", encoding="utf-8")
        self.running[index] = subprocess.Popen(words, stdout=log, stderr=log, user=self.users.get(index))

    def configuration(self, index):
        address = self.instances[index]
        endpoints = ", ".join(f'"{endpoint}"' for endpoint in self.endpoints)
        seeds = ", ".join(f'"{seed}:{GOSSIP_PORT}"' for seed in self.instances[:3])
        cluster = f"""[cluster]
bind = "{address}:{GOSSIP_PORT}"
seeds = [{seeds}]
keys_file = "gossip.keys"
{self.gossip}
""" if self.kind == "tidegate" else ""
        return f"""[instance]
name = "lb-{index + 1:02}"
workers = 1
[admin]
bind = "{address}:{ADMIN_PORT}"
[log]
access = "off"
[drain]
delay = "0s"
grace = "0s"
rate = 1000000
{cluster}[[listeners]]
bind = "{address}:{MQTT_PORT}"
protocol = "mqtt"
pool = "brokers"
[pools.brokers]
endpoints = [{endpoints}]
{self.pool}
health = {{ probe = "tcp", interval = "{self.health_ms}ms", fast_interval = "{max(50, self.health_ms // 4)}ms" }}
"""

    def ready(self, eligible):
        """Waits until every running instance takes connections, sees every endpoint and, in a tier, every other one."""
        if self.kind == "haproxy":
            time.sleep(2.0)
            return
        for index in self.running:
            wait_for(f"instance {index} sees {eligible} endpoints", lambda index=index: self.eligible(index) >= eligible)
            if self.kind == "tidegate":
                wait_for(
                    f"instance {index} sees the tier",
                    lambda index=index: self.api(index, "status")["members"] >= len(self.running),
                )

    def eligible(self, index):
        return sum(endpoint["eligible"] for endpoint in self.pools(index))

    def pools(self, index):
        return self.api(index, "pools")["pools"][0]["endpoints"]

    def api(self, index, what):
        return json.loads(self.get(index, f"/api/v1/{what}"))

    def get(self, index, path):
        url = f"http://{self.instances[index]}:{ADMIN_PORT}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()

    def metric(self, index, name, label=""):
        lines = self.get(index, "/metrics").splitlines()
        mine = (line for line in lines if re.match(rf"{name}[{{ ]", line) and label in line)
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    def kill_instance(self, index, how=signal.SIGKILL):
        process = self.running.pop(index)
        process.send_signal(how)
        process.wait()

    def doors(self, indices=None):
        indices = range(len(self.running)) if indices is None else indices
        return [f"{self.instances[index]}:{MQTT_PORT}" for index in indices]

    # -- brokers

    def broker(self, verb, endpoint):
        for talker, mine in self.brokers:
            if endpoint in mine:
                talker.ask(f"{verb} {endpoint}")

    def counts(self):
        """Clients per endpoint, as the brokers count them now."""
        found = {}
        for talker, _ in self.brokers:
            for word in talker.ask("counts").split():
                endpoint, count = word.rsplit("=", 1)
                found[endpoint] = int(count)
        return [found[endpoint] for endpoint in self.endpoints]

    def settle(self, count):
        """Waits until brokers count as many clients as there are, and gives the counts."""
        wait_for(f"brokers count {count} clients", lambda: sum(self.counts()) == count)
        return self.counts()

    def series(self):
        """{unix ms: {endpoint: count}} for the times that have a row of every endpoint."""
        times = {}
        for path in self.folder.glob("series-*.csv"):
            for line in path.read_text().splitlines():
                fields = line.split(",")
                if len(fields) == 3 and fields[2]:
                    times.setdefault(int(fields[0]), {})[fields[1]] = int(fields[2])
        return {at: row for at, row in sorted(times.items()) if len(row) == len(self.endpoints)}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.crowd.end()
        for process in self.running.values():
            process.kill()
            process.wait()
        for talker, _ in self.brokers:
            talker.end()
        if kind is None:
            shutil.rmtree(self.folder)
        else:
            print(f"logs are in {self.folder}")


def new_key():
    return base64.b64encode(random.SystemRandom().randbytes(32)).decode()


def haproxy(address, endpoints, health_ms):
    servers = "\n".join(
        f"    server b{index} {endpoint} check inter {health_ms}" for index, endpoint in enumerate(endpoints)
    )
    return f"""global
    maxconn 9800
    nbthread 1
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
frontend mqtt
    bind {address}:{MQTT_PORT}
    default_backend brokers
backend brokers
    balance leastconn
{servers}
"""
