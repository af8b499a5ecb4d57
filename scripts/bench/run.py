"""Measures rows, contenders in turn, and keeps the results; see scripts/bench.sh."""

import argparse
import datetime
import hashlib
import os
import pathlib
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import contenders
import report
import scale
from load import Load
from rows import Session, select


def main():
    # An end by a time-out is an end in order: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    args = arguments()
    rows = select(args.only, args.acceptance)
    if args.list:
        for row in rows:
            print(f"{row.name:28} {row.title}")
        return
    names = args.contenders.split(",") if args.contenders else default_contenders()
    if args.publish:
        report.publish(args.out, HERE.parent.parent / "docs" / "performance.md")
        return
    if args.quick:
        # Whether it works, not what it gives.
        args.rounds, args.seconds, args.warmup, args.crowd = 1, 1.0, 0.5, 1000
    if args.scale:
        scale.run(args)
        return
    if len(contenders.CORES) < 2:
        print("one core for the load and what is measured: only counts mean something", file=sys.stderr)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    folder.chmod(0o755)
    contenders.make_secrets(folder)
    servers = contenders.endpoints(3)
    load = Load(servers)
    peers = contenders.start_peers(folder, servers) if any(name.startswith("tidegate") for name in names) else []
    results = report.load(args.out)
    failures = 0
    try:
        for row in rows:
            began = time.monotonic()
            measured, problems = measure(row, names, args, load, folder, servers)
            failures += len(problems)
            results["rows"][row.name] = {
                "title": row.title,
                "contenders": measured,
                "problems": problems,
                "rounds": args.rounds,
                "seconds": args.seconds,
                "binaries": {name: fingerprint(name) for name in names},
                "taken": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            }
            results["host"] = host()
            report.save(args.out, results)
            print(report.row_text(row, results["rows"][row.name]) + f"({time.monotonic() - began:.0f} s)\n", flush=True)
    finally:
        for peer in peers:
            peer.process.kill()
            peer.process.wait()
        load.end()
    shutil.rmtree(folder)
    print(report.acceptance(results, {row.name for row in rows}))
    print(f"written to {args.out}: results.json, table.md, bench.svg")
    if failures:
        raise SystemExit(f"{failures} measurements failed")
    missed = report.missed(results, {row.name for row in rows})
    if args.check and missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="CPU and memory beside HAProxy and NGINX")
    parser.add_argument("--only", action="append", metavar="NAME", help="rows by name, * and ? are allowed")
    parser.add_argument("--acceptance", action="store_true", help="the rows with a target")
    parser.add_argument("--list", action="store_true", help="names the rows")
    parser.add_argument("--contenders", help="by default direct,haproxy,nginx,tidegate, and tidegate-b with TIDEGATE_B")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement, after the warm-up")
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--crowd", type=int, default=5000, help="idle connections")
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument("--scale", action="store_true", help="instead: how cost grows")
    parser.add_argument("--publish", action="store_true", help="instead: writes the results into docs/performance.md")
    parser.add_argument("--check", action="store_true", help="fail when a target of a measured row is missed")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/bench"))
    return parser.parse_args()


def default_contenders():
    return ["direct", "haproxy", "nginx", "tidegate"] + (["tidegate-b"] if os.environ.get("TIDEGATE_B") else [])


def measure(row, names, args, load, folder, servers):
    """Medians over rounds by contender and figure, and what failed."""
    taken = {name: [] for name in names if name != "direct" or row.direct}
    problems = []
    for number in range(args.rounds):
        for name in taken:
            try:
                taken[name].append(once(row, name, args, load, folder, servers))
            except (RuntimeError, TimeoutError, OSError) as error:
                # Its place is kept: ratios are those of one round.
                taken[name].append(None)
                problems.append(f"round {number + 1}, {name}: {error}")
                print(f"{row.name}: {problems[-1]}", file=sys.stderr, flush=True)
    medians = {}
    for name, rounds in taken.items():
        good = [one for one in rounds if one]
        if good:
            medians[name] = {figure: statistics.median(one[figure] for one in good) for figure in good[0]}
            medians[name]["rounds"] = rounds
    return medians, problems


def once(row, name, args, load, folder, servers):
    contender = contenders.start(name, folder, servers, row.buffers)
    try:
        contender.wait()
        return row.run(Session(load, contender, args.seconds, args.warmup, args.crowd))
    finally:
        contender.stop()


def fingerprint(name):
    path = {
        "haproxy": shutil.which("haproxy"),
        "nginx": shutil.which("nginx"),
        "tidegate": os.environ["TIDEGATE"],
        "tidegate-b": os.environ.get("TIDEGATE_B"),
    }.get(name)
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:12] if path else ""


def host():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    control = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {"cpu": model[0] if model else "", "kernel": platform.release(), "cores": len(model), "congestion": control}


if __name__ == "__main__":
    main()
