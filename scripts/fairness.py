"""The runs of scripts/fairness.sh; each says what it does in its first line. Figures are the brokers' own counts."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from experiment import plot
from experiment.tier import Tier, now_ms, wait_for

# A picture needs a little of what comes after.
TAIL = 0.5


class Table:
    """Figure, bound and verdict of every check, printed as they come and once more at the end."""

    def __init__(self, out):
        self.rows, self.failed, self.out = [], 0, out

    def add(self, run, kind, size, what, figure, bound=None):
        """`bound` is the largest good figure; None: for comparison only, as every figure of another kind is."""
        verdict = ""
        if bound is not None and kind == "tidegate":
            verdict = "ok" if figure <= bound else "FAIL"
            self.failed += verdict == "FAIL"
        row = (str(run), kind, size, what, f"{figure:.4g}", "" if bound is None else f"<= {bound:.4g}", verdict)
        self.rows.append(row)
        print("  ".join(row), flush=True)

    def show(self):
        head = ("run", "who", "size", "what", "figure", "bound", "")
        widths = [max(len(row[column]) for row in [head, *self.rows]) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *self.rows]]
        text = "\n".join(lines) + "\n"
        (self.out / "fairness.txt").write_text(text, encoding="utf-8")
        print("\n" + text)


def distance(counts):
    return max(counts) - min(counts)


def spread(counts):
    """(max - min) / mean."""
    total = sum(counts)
    return distance(counts) * len(counts) / total if total else 0.0


def peak(counts):
    """max / mean."""
    total = sum(counts)
    return max(counts) * len(counts) / total if total else 1.0


def window(series, start, end, endpoints=None):
    """The counts of these endpoints, sample by sample."""
    return [
        [count for endpoint, count in sorted(row.items()) if endpoints is None or endpoint in endpoints]
        for at, row in series.items()
        if start <= at <= end
    ]


class Runs:
    """What is common: sizes, table, pictures."""

    def __init__(self, args, table):
        self.quick, self.table, self.out = args.quick, table, args.out
        self.kinds = ["tidegate"] + ["local"] * args.local + ["haproxy"] * args.haproxy
        self.repeats = 3 if args.quick else 20

    def scaled(self, full, quick):
        return quick if self.quick else full

    def compare(self, run, title, one):
        """The same run for every kind, side by side in one picture."""
        panels = []
        for kind in self.kinds:
            panels.append((kind, one(kind)))
        plot.draw(self.out / f"fairness-{run}.svg", title, panels)

    # -- the runs of the table

    def exact(self):
        """1: thirty connections over 3 x 3 are ten each."""
        modes = [("at once", 0, "cycle"), ("10 ms apart", 100, "cycle"), ("random, 10 ms apart", 100, "random")]
        if not self.quick:
            modes.insert(2, ("100 ms apart", 10, "cycle"))
        for kind in self.kinds:
            with Tier(3, 3, kind=kind) as tier:
                tier.crowd.targets(tier.doors())
                for name, rate, choose in modes:
                    tier.crowd.all(f"choose {choose}")
                    uneven = sum(distance(self.thirty(tier, rate)) > 0 for _ in range(self.repeats))
                    bound = self.repeats // 20 if choose == "random" else 0
                    if self.quick and choose == "random":
                        bound = 1
                    self.table.add(1, kind, "3x3, 30", f"uneven of {self.repeats}, {name}", uneven, bound)
                tier.crowd.targets(tier.doors([0]))
                worst = max(distance(self.thirty(tier, 0)) for _ in range(self.repeats))
                self.table.add(1, kind, "1x3, 30", "max-min, one instance has all clients", worst, 1)

    def thirty(self, tier, rate):
        tier.crowd.open(30, rate)
        counts = tier.settle(30)
        tier.crowd.all("close 30")
        tier.settle(0)
        if tier.kind != "haproxy":
            wait_for("the tier knows that all is closed", lambda: all(self.total(tier, index) == 0 for index in tier.running))
        return counts

    @staticmethod
    def total(tier, index):
        return sum(endpoint["cluster_connections"] for endpoint in tier.pools(index))

    def filled(self, kind, instances, endpoints, count, rate, **more):
        """A tier with `count` clients, cycling, and what their ramp said."""
        tier = Tier(instances, endpoints, kind=kind, connections=count, **more)
        try:
            tier.crowd.targets(tier.doors())
            tier.ramp = tier.crowd.open(count, rate)
            if tier.ramp["failed"]:
                print(f"note: {tier.ramp['failed']} connects failed in the ramp")
            tier.settle(tier.ramp["ok"])
        except BaseException as error:
            tier.__exit__(type(error), error, None)
            raise
        return tier

    def ramp(self):
        """2: a ramp over 5 x 10."""
        count, rate = self.scaled(40000, 3000), self.scaled(4000, 1500)

        def one(kind):
            with self.filled(kind, 5, 10, count, rate) as tier:
                counts, took = tier.settle(tier.ramp["ok"]), tier.ramp["ms"] / 1000
                size = f"5x10, {count // 1000}k in {took:.1f} s"
                self.table.add(2, kind, size, "max-min at the end", distance(counts), 10)
                self.table.add(2, kind, size, "max/mean at the end", peak(counts), max(1.001, 1 + 3 * 10 / count))
                self.table.add(2, kind, size, "p99 of a connect, ms", tier.ramp["p99_us"] / 1000)
                time.sleep(TAIL)
                return tier.series()

        self.compare(2, f"{count} connections, 5 instances, 10 endpoints", one)

    def churn(self):
        """3: steady churn."""
        count, rate, seconds = self.scaled(30000, 2000), self.scaled(500, 300), self.scaled(20, 5)

        def one(kind):
            with self.filled(kind, 5, 10, count, self.scaled(4000, 1500)) as tier:
                start = now_ms()
                said = tier.crowd.churn(rate, seconds)
                rows = window(tier.series(), start + 1000, now_ms())
                mean = sum(map(distance, rows)) / len(rows)
                size = f"5x10, {count // 1000}k, {rate}/s"
                self.table.add(3, kind, size, "mean max-min", mean, 8)
                self.table.add(3, kind, size, "failed connects", said["failed"], 0)
                return {at: row for at, row in tier.series().items() if at > start}

        self.compare(3, f"churn {rate}/s at {count} connections", one)

    def endpoint_killed(self):
        """4: an endpoint dies, its clients are back within 1 to 5 s."""
        count = self.scaled(20000, 2000)

        def one(kind):
            with self.filled(kind, 5, 10, count, self.scaled(4000, 1500)) as tier:
                lost = tier.endpoints[3]
                rest = set(tier.endpoints) - {lost}
                tier.crowd.all("reconnect 1000 5000")
                start = now_ms()
                tier.broker("close", lost)
                wait_for("all clients are back", lambda: tier.crowd.counts()["open"] == count, 30)
                tier.settle(count)
                time.sleep(TAIL)
                series = tier.series()
                rows = window(series, start, now_ms(), rest)
                # Three connections of a small run are more than three thousandths.
                bound = max(1.003, 1 + 4 * 9 / count)
                self.table.add(4, kind, f"5x10, {count // 1000}k", "survivors' max/mean, worst", max(map(peak, rows)), bound)
                return {at: row for at, row in series.items() if at > start - 1000}

        self.compare(4, "an endpoint is killed, its clients come back in 1 to 5 s", one)

    def instance_killed(self):
        """5: an instance dies, its clients go to the others."""
        count = self.scaled(20000, 2000)

        def one(kind):
            with self.filled(kind, 5, 10, count, self.scaled(4000, 1500)) as tier:
                tier.crowd.all("reconnect 1000 5000")
                tier.crowd.targets(tier.doors(range(4)))
                start = now_ms()
                tier.kill_instance(4)
                wait_for("all clients are back", lambda: tier.crowd.counts()["open"] == count, 30)
                tier.settle(count)
                time.sleep(TAIL)
                series = tier.series()
                worst = max(map(spread, window(series, start, now_ms())))
                bound = max(0.01, 12 * 10 / count)
                self.table.add(5, kind, f"5x10, {count // 1000}k", "spread, worst, instance killed", worst, bound)
                return {at: row for at, row in series.items() if at > start - 1000}

        self.compare(5, "an instance is killed, its clients come back in 1 to 5 s", one)

    def partition(self):
        """5: the tier falls in two and heals, under churn."""
        count, rate, seconds = self.scaled(20000, 2000), self.scaled(500, 300), self.scaled(6, 3)
        with self.filled("tidegate", 5, 10, count, self.scaled(4000, 1500)) as tier:
            start = now_ms()
            tier.crowd.start("churn", rate, 2.5 * seconds)
            with Partition(tier.instances[:2], tier.instances[2:]):
                wait_for("both halves see it", lambda: members(tier, 0) == 2 and members(tier, 4) == 3)
                time.sleep(seconds)
            healed = time.monotonic()
            wait_for("healed", lambda: all(members(tier, index) == 5 for index in tier.running))
            took = time.monotonic() - healed
            said = tier.crowd.finish()
            series = tier.series()
            rows = window(series, start, now_ms())
            size = f"5x10, {count // 1000}k, {rate}/s"
            self.table.add(5, "tidegate", size, "spread, worst, partition 2|3", max(map(spread, rows)), max(0.01, 12 * 10 / count))
            self.table.add(5, "tidegate", size, "failed connects, partition", said["failed"], 0)
            self.table.add(5, "tidegate", size, "healed after, s", took, 1)
            plot.draw(self.out / "fairness-5-partition.svg", "the tier in two halves, and one again", [("tidegate", series)])

    def scale_out(self):
        """6: an instance and an endpoint join together; the new instance takes 80 % of what comes."""
        count, rate = self.scaled(20000, 2000), self.scaled(3000, 600)
        more = count * 2 // 5

        def one(kind):
            with Tier(5, 10, kind=kind, connections=count + more, start=4, closed=["127.0.20.10:1883"]) as tier:
                tier.crowd.targets(tier.doors(range(4)))
                tier.settle(tier.crowd.open(count, rate)["ok"])
                start = now_ms()
                tier.start_instance(4)
                tier.broker("open", tier.endpoints[9])
                tier.ready(10)
                tier.crowd.targets([*tier.doors(range(4)), tier.doors([4])[0] + "*16"])
                tier.crowd.open(more, rate)
                counts = tier.settle(tier.crowd.counts()["open"])
                size = f"5x10, {count // 1000}k + {more / 1000:g}k"
                bound = max(0.005, 3 * 10 / (count + more))
                self.table.add(6, kind, size, "spread at the end", spread(counts), bound)
                time.sleep(TAIL)
                return {at: row for at, row in tier.series().items() if at > start - 1000}

        self.compare(6, "an instance and an endpoint join", one)

    def join_cap(self):
        """7: an endpoint joins under a storm."""
        count, rate, cap = self.scaled(12000, 2000), self.scaled(3000, 900), self.scaled(1000, 300)

        def one(kind):
            pool = f"join_rate = {cap}"
            with self.filled(kind, 5, 10, count, rate, pool=pool, closed=["127.0.20.10:1883"]) as tier:
                start = now_ms()
                tier.crowd.start("churn", rate, self.scaled(6, 3))
                tier.broker("open", tier.endpoints[9])
                said = tier.crowd.finish()
                series = {at: row for at, row in tier.series().items() if at > start}
                newcomer = [(at, row[tier.endpoints[9]]) for at, row in series.items()]
                # What the churn closes there again is what it holds already: little, while it is new.
                gains = [(b - a) * 2 for (_, a), (_, b) in zip(newcomer, newcomer[10:])]
                size = f"5x10, {count // 1000}k, storm {rate}/s"
                self.table.add(7, kind, size, f"newcomer's connections/s in 0.5 s, cap {cap}", max(gains), cap * 1.3)
                self.table.add(7, kind, size, "failed connects", said["failed"], 0)
                return series

        self.compare(7, "an endpoint joins under a storm", one)

    def slow(self):
        """8: an endpoint accepts and never answers."""
        count, rate, seconds = self.scaled(6000, 1000), self.scaled(500, 200), self.scaled(30, 8)

        def one(kind):
            with self.filled(kind, 5, 10, count, self.scaled(3000, 1000), pool='connack_timeout = "1s"') as tier:
                ill, start = tier.endpoints[3], now_ms()
                tier.broker("hang", ill)
                said = tier.crowd.churn(rate, seconds)
                size = f"5x10, {rate}/s for {seconds} s"
                if kind != "haproxy":
                    attempts = sum(
                        endpoint["failures_total"]
                        for index in tier.running
                        for endpoint in tier.pools(index)
                        if endpoint["address"] == ill
                    )
                    self.table.add(8, kind, size, "failed connects to the slow one", attempts, 200)
                self.table.add(8, kind, size, "clients that failed", said["failed"], 0)
                return {at: row for at, row in tier.series().items() if at > start - 1000}

        self.compare(8, "an endpoint accepts and never answers", one)


class Partition:
    """Drops the gossip between two sets of addresses."""

    def __init__(self, left, right):
        self.rules = "".join(
            f"add rule inet split input ip saddr {{ {', '.join(a)} }} ip daddr {{ {', '.join(b)} }} udp dport 7946 drop\n"
            for a, b in ((left, right), (right, left))
        )

    def __enter__(self):
        chain = "add table inet split\nadd chain inet split input { type filter hook input priority 0; }\n"
        subprocess.run(["nft", "-f", "-"], input=chain + self.rules, text=True, check=True)

    def __exit__(self, *_):
        subprocess.run(["nft", "delete", "table", "inet", "split"], check=True)


def members(tier, index):
    return tier.api(index, "status")["members"]


RUNS = {
    "1": ["exact"],
    "2": ["ramp"],
    "3": ["churn"],
    "4": ["endpoint_killed"],
    "5": ["instance_killed", "partition"],
    "6": ["scale_out"],
    "7": ["join_cap"],
    "8": ["slow"],
}


def main():
    described = "\n".join(f"  {getattr(Runs, name).__doc__}" for names in RUNS.values() for name in names)
    parser = argparse.ArgumentParser(
        prog="scripts/fairness.sh", epilog="runs:\n" + described, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small counts, for CI")
    parser.add_argument("--local", action="store_true", help="also instances that do not talk to each other")
    parser.add_argument("--haproxy", action="store_true", help="also HAProxy with leastconn, where it is installed")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/fairness"), help="folder of table and pictures")
    parser.add_argument("runs", nargs="*", metavar="RUN", choices=[[], *RUNS], help="numbers, default all")
    args = parser.parse_args()
    if args.haproxy and not shutil.which("haproxy"):
        print("haproxy is not installed: left out")
        args.haproxy = False
    args.out.mkdir(parents=True, exist_ok=True)
    table = Table(args.out)
    runs = Runs(args, table)
    for number in args.runs or RUNS:
        for name in RUNS[number]:
            if name == "partition" and "TIDEGATE_NAMESPACE" not in os.environ:
                print("run 5, partition: only in a network namespace of its own")
                continue
            try:
                getattr(runs, name)()
            except (TimeoutError, RuntimeError) as error:
                print(f"FAIL  run {number}, {name}: {error}")
                table.failed += 1
    table.show()
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
