"""What is measured, and what is asked of it."""

import dataclasses
import fnmatch
import pathlib
import re
import signal
import subprocess
import time

from experiment.tier import wait_for

# Bytes of one buffer, per kind of load: HAProxy and NGINX have one setting for all, and get the best for each.
MESSAGES = {"haproxy": "16384", "nginx": "16k"}
IDLE = {"haproxy": "16384", "nginx": "4k"}
BULK = {"haproxy": "65536", "nginx": "64k"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A load, and the figures that are told of it."""

    name: str
    title: str
    # Figures of a measurement by name; the first one is drawn.
    figures: tuple
    run: object
    buffers: dict = dataclasses.field(default_factory=lambda: MESSAGES)
    # Without a proxy it means something, too.
    direct: bool = True


@dataclasses.dataclass(frozen=True)
class Target:
    """A line of the acceptance table."""

    title: str
    row: str
    figure: str
    most: float
    # Whose figure it is divided by: the better of them. None: the figure is a ratio itself.
    peers: tuple | None = ("haproxy", "nginx")


class Session:
    """What a row gets to work with."""

    def __init__(self, load, contender, seconds, warmup, crowd):
        self.load, self.contender, self.seconds, self.warmup, self.crowd = load, contender, seconds, warmup, crowd

    def words(self, tls, rsa=False, **more):
        more["target"] = f"{self.contender.address}:{self.contender.port(tls, rsa)}"
        more["pids"] = ",".join(str(pid) for pid in self.contender.pids())
        if not isinstance(self.contender.port(tls), int) or self.contender.name != "direct":
            more["tls"] = tls
        return more | {"seconds": self.seconds, "warmup": self.warmup}


def cpu(answer):
    return {
        "cpu_us": answer["cpu_us_per_unit"],
        "rate": answer["rate"],
        "cpu_share": answer["cpu_share"],
        "load_cpu_share": answer["load_cpu_share"],
    }


def latency(answer):
    return {f"{name}_us": answer["latency_us"][name] for name in ("p50", "p99", "p999")}


def messages(tls, payload, connections, rate=0):
    def run(session):
        words = session.words(tls, payload=payload, connections=connections, rate=rate)
        answer = session.load.ask("qos1", **words)
        if rate and abs(answer["rate"] / rate - 1) > 0.02:
            raise RuntimeError(f"{answer['rate']:.0f} messages a second instead of {rate}")
        return cpu(answer) | latency(answer)

    return run


def bulk(tls, direction):
    def run(session):
        answer = session.load.ask("bulk", **session.words(tls, direction=direction, connections=4))
        speed = {"cpu_s_per_gb": answer["cpu_s_per_gb"], "gb_per_s": answer["rate"] / 1e9}
        # What a small message on another connection waits meanwhile.
        beside = {"beside_p50_us": answer["latency_us"]["p50"], "beside_p99_us": answer["latency_us"]["p99"]}
        return cpu(answer) | speed | beside

    return run


def connects(tls, rsa=False):
    def run(session):
        answer = session.load.ask("connects", **session.words(tls, rsa, connections=32))
        expected = answer["units"] if tls == "resumed" else 0
        if abs(answer["resumed"] - expected) > answer["units"] * 0.01:
            raise RuntimeError(f"{answer['resumed']} of {answer['units']} handshakes were resumed")
        return cpu(answer) | latency(answer) | {"failed": answer["failed"]}

    return run


def idle(tls):
    def run(session):
        load, contender, count = session.load, session.contender, session.crowd
        words = session.words(tls)
        # Whatever is allocated once for all connections is there before the first figure.
        load.ask("open", **words, connections=64)
        load.ask("burst")
        load.ask("close")
        time.sleep(1.5)
        empty = contender.rss()
        load.ask("open", **words, connections=count)
        time.sleep(1.5)
        held = contender.rss()
        load.ask("burst")
        # At rest again: memory that goes back late goes back.
        time.sleep(3)
        after = contender.rss()
        load.ask("close")
        time.sleep(3)
        closed = contender.rss()
        return {
            "bytes": (held - empty) / count,
            "bytes_after_burst": (after - empty) / count,
            "bytes_after_close": (closed - empty) / count,
            "burst_ratio": (after - empty) / max(1, held - empty),
            "burst_rss_ratio": after / held,
            "rss_mb": held / 1e6,
        }

    return run


# At a pace at which every message comes alone. The connections that are opened before are less than 0.05 of a call.
ALONE = {"payload": 64, "connections": 10, "rate": 1000, "seconds": 4}


def syscalls(tls, verb="qos1", load=None):
    """Calls per message, or what else a unit of the load is, by name."""

    def run(session):
        report = pathlib.Path(session.contender.log).with_suffix(".strace")
        # Of tidegate the worker: its other threads talk to the tier and to the brokers' ports, whatever the messages do.
        tasks = session.contender.workers()
        command = ["strace", "-c", "-o", str(report), *(word for task in tasks for word in ("-p", str(task)))]
        strace = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for("strace is attached", lambda: all(traced(task) for task in tasks))
        units = session.load.ask(verb, **session.words(tls) | {"warmup": 0} | (load or ALONE))["units"]
        strace.send_signal(signal.SIGINT)
        strace.wait(timeout=10)
        counts = {}
        for line in report.read_text().splitlines():
            found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
            if found and found[2] != "total":
                counts[found[2]] = int(found[1])
        kinds = {"recvfrom": "receive", "read": "receive", "sendto": "send", "write": "send", "epoll_wait": "wait", "epoll_ctl": "epoll_ctl"}
        kinds |= {"recvmsg": "receive", "readv": "receive", "sendmsg": "send", "writev": "send", "epoll_pwait": "wait"}
        per = dict.fromkeys(CALLS, 0.0)
        for name, count in counts.items():
            per[kinds.get(name, "other")] += count / units
        return per | {"rest": per["epoll_ctl"] + per["other"]}

    return run


def traced(task):
    return "TracerPid:\t0" not in pathlib.Path(f"/proc/{task}/status").read_text()


CPU_US = ("cpu_us", "rate", "cpu_share", "load_cpu_share", "p50_us", "p99_us", "p999_us")
PER_GB = ("cpu_s_per_gb", "gb_per_s", "beside_p50_us", "beside_p99_us", "cpu_share", "load_cpu_share")
BYTES = ("bytes", "bytes_after_burst", "bytes_after_close", "burst_ratio", "burst_rss_ratio", "rss_mb")
CALLS = ("receive", "send", "wait", "epoll_ctl", "other")
PACED = 10_000


def all_rows():
    rows = []
    for tls, word in (("off", "plain"), ("full", "tls")):
        for payload in (64, 256, 1024):
            for connections in (200, 1000):
                for rate, pace in ((0, ""), (PACED, "-paced")):
                    # The ones with a target have the short names.
                    canonical = payload == 256 and connections == 200
                    name = f"qos1-{word}{pace}" + ("" if canonical else f"-{payload}-{connections}")
                    title = f"QoS 1, {word}, {payload} B, {connections} connections" + (", 10k/s" if rate else "")
                    run = messages(tls, payload, connections, rate)
                    rows.append(Row(name, title, CPU_US, run, direct=tls == "off"))
        rows.append(Row(f"syscalls-{word}", f"system calls per message, {word}", CALLS, syscalls(tls), direct=False))
        for direction in ("up", "down"):
            run = bulk(tls, direction)
            rows.append(Row(f"bulk-{word}-{direction}", f"bulk {direction}, {word}", PER_GB, run, BULK, tls == "off"))
        rows.append(Row(f"idle-{word}", f"idle connections, {word}", BYTES, idle(tls), IDLE, direct=False))
    rows.append(Row("connect-plain", "connect, CONNECT, close", CPU_US, connects("off")))
    run = syscalls("full", "connects", {"connections": 4, "seconds": 2})
    rows.append(Row("syscalls-connect-tls", "system calls per connect, TLS p256", CALLS, run, direct=False))
    for tls, rsa, name in (("full", False, "p256"), ("full", True, "rsa"), ("resumed", False, "resumed")):
        row = Row(f"connect-tls-{name}", f"the same, TLS {name}", CPU_US, connects(tls, rsa), direct=False)
        rows.append(row)
    return rows


TARGETS = (
    Target("QoS 1 message plain", "qos1-plain", "cpu_us", 0.93),
    Target("the same paced at 10k/s", "qos1-plain-paced", "cpu_us", 0.96),
    Target("QoS 1 message TLS", "qos1-tls", "cpu_us", 0.70),
    Target("TLS paced at 10k/s", "qos1-tls-paced", "cpu_us", 0.88),
    Target("QoS 1 message plain, 1000 connections", "qos1-plain-256-1000", "cpu_us", 0.93),
    Target("the same paced at 10k/s", "qos1-plain-paced-256-1000", "cpu_us", 0.96),
    Target("QoS 1 message TLS, 1000 connections", "qos1-tls-256-1000", "cpu_us", 0.70),
    Target("TLS paced at 10k/s, 1000 connections", "qos1-tls-paced-256-1000", "cpu_us", 0.88),
    Target("connect + CONNECT + close plain", "connect-plain", "cpu_us", 1.00, ("nginx",)),
    Target("TLS full P-256", "connect-tls-p256", "cpu_us", 0.40),
    Target("TLS full RSA", "connect-tls-rsa", "cpu_us", 0.70),
    Target("TLS resumed", "connect-tls-resumed", "cpu_us", 0.46),
    # With splice, which HAProxy has too.
    Target("bulk plain up, CPU per GB", "bulk-plain-up", "cpu_s_per_gb", 0.50),
    Target("bulk plain down, CPU per GB", "bulk-plain-down", "cpu_s_per_gb", 0.50),
    Target("bulk TLS up, CPU per GB", "bulk-tls-up", "cpu_s_per_gb", 0.70),
    Target("bulk TLS down, CPU per GB", "bulk-tls-down", "cpu_s_per_gb", 0.70),
    Target("message beside bulk plain up, p50", "bulk-plain-up", "beside_p50_us", 1.00),
    Target("message beside bulk TLS up, p50", "bulk-tls-up", "beside_p50_us", 1.00),
    Target("idle RSS per connection plain", "idle-plain", "bytes", 0.40, ("haproxy",)),
    Target("idle RSS per connection TLS", "idle-tls", "bytes", 0.30, ("haproxy",)),
    Target("after a 4 KiB burst, at rest, plain", "idle-plain", "burst_ratio", 1.02, None),
    Target("after a 4 KiB burst, at rest, TLS", "idle-tls", "burst_ratio", 1.02, None),
    Target("p99 latency paced, plain", "qos1-plain-paced", "p99_us", 1.00),
    Target("p99 latency paced, TLS", "qos1-tls-paced", "p99_us", 1.00),
    Target("recv per message plain", "syscalls-plain", "receive", 2.02, None),
    Target("send per message plain", "syscalls-plain", "send", 2.02, None),
    Target("recv per message TLS", "syscalls-tls", "receive", 2.02, None),
    Target("send per message TLS", "syscalls-tls", "send", 2.02, None),
    # ClientHello, Finished and CONNECT, CONNACK, the client's goodbye, the broker's end.
    Target("recv per TLS connect", "syscalls-connect-tls", "receive", 5.25, None),
    # ServerHello to Finished, CONNECT, ticket and CONNACK, goodbye; and now and then a write that wakes the control thread.
    Target("send per TLS connect", "syscalls-connect-tls", "send", 4.25, None),
    Target("other calls per message plain", "syscalls-plain", "rest", 0.05, None),
    Target("other calls per message TLS", "syscalls-tls", "rest", 0.05, None),
)


def select(patterns, acceptance):
    rows = all_rows()
    if acceptance:
        wanted = {target.row for target in TARGETS}
        rows = [row for row in rows if row.name in wanted]
    if patterns:
        chosen = [row for row in rows if any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns)]
        for pattern in patterns:
            if not any(fnmatch.fnmatch(row.name, pattern) for row in rows):
                raise SystemExit(f"no row is called {pattern}; --list names them")
        rows = chosen
    return rows
