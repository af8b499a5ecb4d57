"""A live tier of three: members die and come back, datagrams attack it, it is cut in two, one path is broken. Figures are printed as they come.

The datagrams are real ones, taken off the wire: of this tier (replayed, truncated), of an instance with another key, of one
with another cluster id; and such that never were gossip. Nothing of them may change what any member says.
"""

import argparse
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from experiment.tier import GOSSIP_PORT, Tier, new_key, wait_for
from fairness import Partition, members

RATE = 10_000
failed = 0


def check(what, good, figure=""):
    global failed
    failed += not good
    print(f"{'ok   ' if good else 'FAIL '} {what}  {figure}", flush=True)


class Capture:
    """UDP payloads on the loopback device: (source address, payload)."""

    def __init__(self):
        self.seen, self.stop = [], False
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.1)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop:
            try:
                frame, (_, _, direction, _, _) = self.socket.recvfrom(70000)
            except TimeoutError:
                continue
            # Every packet on lo is seen twice: take it as it goes out (4).
            if direction != 4 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
                continue
            header = 14 + (frame[14] & 15) * 4
            if struct.unpack("!H", frame[header + 2 : header + 4])[0] == GOSSIP_PORT:
                self.seen.append((socket.inet_ntoa(frame[26:30]), frame[header + 8 :]))

    def end(self):
        self.stop = True
        self.thread.join()
        self.socket.close()
        return self.seen


def capture(seconds):
    running = Capture()
    time.sleep(seconds)
    return running.end()


def flood(target, datagrams, seconds):
    """Sends them in turn at RATE per second; gives how many were sent."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.66.6", 0))
    begun, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - begun) < seconds:
        while sent < elapsed * RATE:
            try:
                sender.sendto(datagrams[sent % len(datagrams)], (target, GOSSIP_PORT))
            except OSError:
                pass
            sent += 1
        time.sleep(0.001)
    sender.close()
    return sent


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def stranger(tier, index, **change):
    """Starts a fourth instance that is not of this tier, and gives the datagrams that it sends."""
    text = tier.configuration(index)
    for old, new in change.get("edits", []):
        text = text.replace(old, new)
    path = tier.folder / "stranger.toml"
    path.write_text(text)
    process = subprocess.Popen([os.environ["TIDEGATE"], "run", "-c", str(path)], stdout=subprocess.DEVNULL)
    try:
        seen = capture(2.0)
    finally:
        process.kill()
        process.wait()
    return [payload for source, payload in seen if source == tier.instances[index]]


def picture(tier):
    """What must not change: members with their generations, counts, verdicts."""
    found = []
    for index in tier.running:
        body = tier.api(index, "members")
        rows = body["members"] if isinstance(body, dict) else body
        found.append([(row["id"], row["generation"], row["state"], row["connections"]) for row in rows])
        found.append([(e["address"], e["state"], e["cluster_connections"]) for e in tier.pools(index)])
    return found


def attack(seconds):
    with Tier(4, 3, start=3) as tier:
        tier.crowd.targets(tier.doors(range(3)))
        tier.crowd.open(30, 100)
        tier.settle(30)
        (tier.folder / "wrong.keys").write_text(new_key() + "\n")
        wrong_key = stranger(tier, 3, edits=[("gossip.keys", "wrong.keys")])
        other_id = stranger(tier, 3, edits=[("[cluster]", '[cluster]\nid = "other"')])
        check("a stranger was heard", bool(wrong_key and other_id), f"{len(wrong_key)} and {len(other_id)} datagrams")
        own = [payload for _, payload in capture(2.0)]
        kinds = {
            "noise, 64 KB": [os.urandom(65000) for _ in range(16)],
            "noise, small": [os.urandom(size) for size in range(1, 400)],
            "unsealed gossip": [bytes([0, 0]) + payload[40:] for payload in own if len(payload) > 48],
            "sealed with a wrong key": wrong_key,
            "of another cluster id": other_id,
            # Fresh ones: older than 30 s they would be refused for that.
            "replayed": None,
            "truncated": [payload[:cut] for payload in own[:50] for cut in (0, 1, len(payload) // 2, len(payload) - 1)],
        }
        idle = use_of(tier, lambda: time.sleep(seconds) or 0, seconds)[0]
        print(f"      nobody attacks: {100 * idle:.2f} % of a core")
        before = picture(tier)
        for name, datagrams in kinds.items():
            datagrams = datagrams or [payload for _, payload in capture(1.0)]
            reasons = rejected(tier)
            memory = resident_kib(tier.running[0])
            share, sent = use_of(tier, lambda: flood(tier.instances[0], datagrams, seconds), seconds)
            after = {reason: count - reasons.get(reason, 0) for reason, count in rejected(tier).items()}
            counted = {reason: int(count) for reason, count in after.items() if count}
            figure = f"{sent / seconds:.0f}/s, {100 * share:.1f} % of a core, {counted}"
            check(f"{name}: nothing changes", picture(tier) == before, figure)
            check(f"{name}: counted by reason, CPU below a half", sum(counted.values()) > sent / 50 and share < 0.5)
            check(f"{name}: memory", resident_kib(tier.running[0]) - memory < 4096, f"{resident_kib(tier.running[0]) - memory:+} KiB")
        tier.crowd.open(3, 100)
        wait_for("new clients are counted by all", lambda: all(total(tier, index) == 33 for index in range(3)))
        check("no gossip task was restarted", sum(tier.metric(i, "tidegate_cluster_restarts_total") for i in range(3)) == 0)


def use_of(tier, action, seconds):
    """CPU of the attacked instance while `action` runs, as a share of a core, and what it gave."""
    before = cpu_seconds(tier.running[0])
    result = action()
    return (cpu_seconds(tier.running[0]) - before) / seconds, result


def rejected(tier):
    found = {}
    for line in tier.get(0, "/metrics").splitlines():
        if line.startswith("tidegate_cluster_datagrams_rejected_total{"):
            reason = line.split('reason="', 1)[1].split('"', 1)[0]
            found[reason] = float(line.rsplit(" ", 1)[1])
    return found


def total(tier, index):
    return sum(endpoint["cluster_connections"] for endpoint in tier.pools(index))


def partition(seconds):
    with Tier(3, 3) as tier:
        tier.crowd.targets(tier.doors())
        tier.crowd.open(30, 100)
        generations = [row[1] for row in picture(tier)[0]]
        with Partition(tier.instances[:1], tier.instances[1:]):
            begun = time.monotonic()
            wait_for("both halves notice", lambda: members(tier, 0) == 1 and members(tier, 1) == 2)
            print(f"      halves noticed after {time.monotonic() - begun:.2f} s")
            said = tier.crowd.open(30, 100)
            check("both halves serve", said["failed"] == 0, str(said))
            check("the half of one says that it is alone", "alone" in tier.get(0, "/readyz"))
            time.sleep(seconds)
        begun = time.monotonic()
        wait_for("healed", lambda: all(members(tier, index) == 3 and total(tier, index) == 60 for index in range(3)))
        took = time.monotonic() - begun
        check("healed within 1 s", took <= 1, f"{took:.2f} s")
        check("nobody restarted", [row[1] for row in picture(tier)[0]] == generations)


def lifetimes(rounds):
    """Kill -9, restart, orderly stop: how long the others count what is gone, and that nothing is counted twice."""
    with Tier(3, 3) as tier:
        tier.crowd.targets(tier.doors(range(2)))
        tier.crowd.open(20, 100)
        deaths, goodbyes, twice = [], [], 0
        for kill in [True, False] * rounds:
            tier.crowd.targets(tier.doors([2]))
            tier.crowd.open(10, 100)
            wait_for("all count thirty", lambda: all(total(tier, index) == 30 for index in range(3)))
            begun = time.monotonic()
            tier.kill_instance(2, signal.SIGKILL if kill else signal.SIGTERM)
            ended = time.monotonic()
            wait_for("its counts are gone", lambda: all(total(tier, index) == 20 for index in range(2)), step=0.005)
            # A goodbye is said before the process ends, a death is seen after it.
            (deaths if kill else goodbyes).append(time.monotonic() - (begun if kill else ended))
            tier.start_instance(2)
            back = time.monotonic() + 2
            while time.monotonic() < back:
                twice += any(total(tier, index) > 20 for index in range(2))
                time.sleep(0.02)
            tier.ready(3)
        check("kill -9: counts are gone within 1.5 s", max(deaths) <= 1.5, f"{', '.join(f'{took:.2f}' for took in deaths)} s")
        figure = f"{', '.join(f'{max(took, 0) * 1000:.0f}' for took in goodbyes)} ms after the exit"
        check("orderly stop: counts are gone within 200 ms", max(goodbyes) <= 0.2, figure)
        check("a restart is never counted twice", twice == 0, f"{twice} looks saw more than there is")


def one_path(seconds):
    # Its connections to brokers are told apart by the user that it runs as.
    with Tier(3, 3, users={1: 65534}) as tier:
        ill = tier.endpoints[0]
        address = ill.split(":")[0]
        subprocess.run(
            ["nft", "-f", "-"], text=True, check=True,
            input="add table inet path\nadd chain inet path out { type filter hook output priority 0; }\n"
            f"add rule inet path out meta skuid 65534 ip daddr {address} drop\n",
        )
        try:
            state = lambda index: next(e for e in tier.pools(index) if e["address"] == ill)
            wait_for("the one avoids it", lambda: not state(1)["eligible"])
            picks = state(1)["picks_total"]
            flaps, others = 0, [state(0)["picks_total"], state(2)["picks_total"]]
            tier.crowd.targets(tier.doors())
            tier.crowd.start("open", int(30 * seconds), 30)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                flaps += state(1)["eligible"] or not (state(0)["eligible"] and state(2)["eligible"])
                time.sleep(0.1)
            said = tier.crowd.finish()
            check("one path is broken: all clients are served", said["failed"] == 0, str(said))
            check("that instance avoids the endpoint", state(1)["picks_total"] == picks, f"{state(1)['why']}")
            gained = [state(0)["picks_total"] - others[0], state(2)["picks_total"] - others[1]]
            check("the others go on using it", min(gained) > 0, f"{gained} picks")
            check("nobody flaps", flaps == 0, f"{flaps} looks saw another state")
            print(f"      endpoint counts {tier.counts()}, the picture: {state(0)['seen_by']}")
        finally:
            subprocess.run(["nft", "delete", "table", "inet", "path"], check=True)
        wait_for("the path is good again", lambda: state(1)["eligible"])


def main():
    parser = argparse.ArgumentParser(prog="scripts/gossip-acceptance.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    seconds = 2 if parser.parse_args().quick else 5
    lifetimes(1 if seconds == 2 else 5)
    attack(seconds)
    partition(seconds)
    one_path(seconds)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
