"""How cost grows with connections, endpoints and members: one of the three changes, the others stay.

Control is the thread beside the data path: gossip, probes, pools. The last point has the most of everything.
"""

import json
import pathlib
import shutil
import tempfile
import time

import contenders
from load import Load

# Connections, endpoints, members.
BASE = (1000, 3, 3)
POINTS = (
    BASE, (5000, 3, 3), (9000, 3, 3),
    (1000, 30, 3), (1000, 300, 3),
    (1000, 3, 1), (1000, 3, 10),
    (9000, 300, 10),
)  # fmt: skip
QUICK = ((500, 3, 1), (500, 30, 3))
HEAD = (
    "connections", "endpoints", "members", "CPU per message, us", "CPU per connect, us", "of it control, us",
    "control at rest", "workers at rest", "RSS, MB", "kernel bytes per socket",
)  # fmt: skip


def run(args):
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    print("\n".join(lines), flush=True)
    points = []
    for point in QUICK if args.quick else POINTS:
        figures = measure(*point, args)
        points.append(dict(zip(HEAD, figures)))
        lines.append("| " + " | ".join(figures) + " |")
        print(lines[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scale.md").write_text("\n".join(lines) + "\n")
    (args.out / "scale.json").write_text(json.dumps(points, indent=1) + "\n")
    print(f"written to {args.out}: scale.md, scale.json")


def measure(connections, endpoints, members, args):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    folder.chmod(0o755)
    contenders.make_secrets(folder)
    servers = contenders.endpoints(endpoints)
    load = Load(servers)
    peers = contenders.start_peers(folder, servers, members - 1)
    contender = None
    try:
        contender = contenders.Tidegate(folder, servers, members=members)
        contender.wait()
        # The first probes and the joining are over.
        time.sleep(3)
        words = {"target": f"{contender.address}:{contenders.PLAIN_PORT}", "pids": contender.process.pid}
        words |= {"tid": contender.control(), "seconds": args.seconds, "warmup": args.warmup}
        message = load.ask("qos1", **words, connections=connections, payload=256)
        time.sleep(2)
        before = kernel_bytes()
        load.ask("open", **words, connections=connections)
        time.sleep(2)
        # A client, two ends in the contender, a broker.
        kernel = (kernel_bytes() - before) / (4 * connections)
        rest = load.ask("rest", **words | {"seconds": 5})
        memory = contender.rss()
        connect = load.ask("connects", **words, connections=32)
        load.ask("close")
        control = connect["thread_cpu_share"] * connect["seconds"] * 1e6 / connect["units"]
        return [
            str(connections), str(endpoints), str(members),
            f"{message['cpu_us_per_unit']:.2f}", f"{connect['cpu_us_per_unit']:.1f}", f"{control:.1f}",
            f"{100 * rest['thread_cpu_share']:.2f} %", f"{100 * (rest['cpu_share'] - rest['thread_cpu_share']):.2f} %",
            f"{memory / 1e6:.1f}", f"{kernel:.0f}",
        ]  # fmt: skip
    finally:
        for process in [*peers, *([contender] if contender else [])]:
            process.process.kill()
            process.process.wait()
        load.end()
        shutil.rmtree(folder)


def kernel_bytes():
    """What the kernel's slabs hold: sockets, files, names, epoll's items. Queued data is in pages and not in it."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))
