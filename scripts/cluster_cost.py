"""CPU, bytes and staleness per instance at several tier sizes, under churn over 100 endpoints.

CPU is what the scheduler accounts to the control thread, where gossip runs, beside that of the same churn through
instances that do not talk; the difference is the tier's. A change is an open or a close. Above 1 / gap changes per second
the rate makes no difference to the gossip: every push is due. So a machine that cannot carry 500 changes per second
through each of 30 instances measures the same gossip at fewer.
"""

import argparse
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from experiment.tier import Tier

CLIENTS_PER_INSTANCE = 100


def control_seconds(process):
    """CPU of the threads by name: control, and all together."""
    control = whole = 0
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        spent = int((task / "schedstat").read_text().split()[0]) / 1e9
        whole += spent
        if (task / "comm").read_text().startswith("tidegate-contro"):
            control += spent
    return control, whole


def measure(kind, count, changes, endpoints, seconds):
    """Per instance: CPU shares of the control thread and of all, bytes and datagrams out per second, ages in ms."""
    pool = "join_rate = 0"
    with Tier(count, endpoints, kind=kind, connections=CLIENTS_PER_INSTANCE * count, pool=pool, health_ms=10_000) as tier:
        tier.crowd.targets(tier.doors())
        opened = tier.crowd.open(CLIENTS_PER_INSTANCE * count, 1000)
        # The first probes of all endpoints, and the joining, are not what is measured.
        time.sleep(2)
        tier.crowd.start("churn", count * changes / 2, seconds + 2)
        time.sleep(1)
        before, begun = totals(tier), time.monotonic()
        ages = []
        while time.monotonic() - begun < seconds:
            if kind == "tidegate":
                page = tier.get(len(ages) % count, "/metrics")
                found = re.findall(r"^tidegate_cluster_record_age_seconds\{.*\} (\S+)", page, re.M)
                ages += [float(age) * 1000 for age in found]
            time.sleep(0.05)
        took = time.monotonic() - begun
        after = totals(tier)
        said = tier.crowd.finish()
        per = [(b - a) / took / count for a, b in zip(before, after)]
        reached = 2 * said["ok"] / (said["ms"] / 1000) / count
        if opened["failed"] or said["failed"]:
            print(f"note: {opened['failed'] + said['failed']} connects failed")
        return per, sorted(ages), reached


def totals(tier):
    spent = [control_seconds(process) for process in tier.running.values()]
    sums = [sum(one[0] for one in spent), sum(one[1] for one in spent)]
    for name in ("tidegate_cluster_bytes_total", "tidegate_cluster_datagrams_total"):
        one = 0.0 if tier.kind != "tidegate" else sum(tier.metric(i, name, 'direction="out"') for i in tier.running)
        sums.append(one)
    return sums


def main():
    parser = argparse.ArgumentParser(prog="scripts/cluster-cost.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 members, 10 endpoints, 3 s")
    parser.add_argument("--members", type=int, action="append")
    parser.add_argument("--changes", type=float, default=500, help="per second and instance")
    parser.add_argument("--changes-total", type=float, default=3000, help="what the machine carries, all instances together")
    args = parser.parse_args()
    endpoints, seconds = (10, 3) if args.quick else (100, 15)
    print("| members | changes/s per instance | control CPU | without a tier | all CPU | without | KB/s out | datagrams/s out | age p50 / p99 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in args.members or ([3] if args.quick else [3, 10, 30]):
        changes = min(args.changes, args.changes_total / count)
        alone, _, _ = measure("local", count, changes, endpoints, seconds)
        tier, ages, reached = measure("tidegate", count, changes, endpoints, seconds)
        p50, p99 = (ages[int(len(ages) * share)] for share in (0.5, 0.99))
        print(
            f"| {count} | {reached:.0f} | {100 * tier[0]:.2f} % | {100 * alone[0]:.2f} % | {100 * tier[1]:.2f} % | {100 * alone[1]:.2f} %"
            f" | {tier[2] / 1000:.1f} | {tier[3]:.0f} | {p50:.0f} / {p99:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
