"""Results as JSON, as Markdown and as a picture."""

import json
import pathlib
import shutil
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from experiment import plot
from rows import TARGETS, all_rows

LABELS = {
    "cpu_us": "CPU, us", "rate": "per second", "cpu_share": "its core", "load_cpu_share": "load's core",
    "beside_p50_us": "message beside, p50, us", "beside_p99_us": "p99, us", "p50_us": "p50, us", "p99_us": "p99, us", "p999_us": "p99.9, us",
    "cpu_s_per_gb": "CPU s per GB", "gb_per_s": "GB/s",
    "bytes": "bytes each", "bytes_after_burst": "after a burst", "bytes_after_close": "after close",
    "burst_ratio": "burst / before", "burst_rss_ratio": "the same, whole RSS", "rss_mb": "RSS, MB",
}  # fmt: skip


def load(folder):
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": {}, "host": {}}


def save(folder, results):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "table.md").write_text(acceptance(results) + "\n" + tables(results))
    picture(folder / "bench.svg", results)


def shown(figure, value):
    if value is None:
        return "-"
    if figure.endswith("share"):
        return f"{100 * value:.0f} %"
    if figure in ("rate", "bytes", "bytes_after_burst", "bytes_after_close"):
        return f"{value:.0f}"
    if "ratio" in figure or figure.endswith("gb"):
        return f"{value:.3f}"
    return f"{value:.2f}"


def ratio(row, figure, name, peer):
    """Median of the rounds' ratios: what slows the machine down for a while slows both down."""
    both = (row["contenders"].get(one, {}).get("rounds", []) for one in (name, peer))
    ratios = [own[figure] / other[figure] for own, other in zip(*both) if own and other and other.get(figure)]
    return statistics.median(ratios) if ratios else None


def spread(figures, figure):
    """Half of the distance between the extremes, relative to the median."""
    values = [one[figure] for one in figures["rounds"] if one]
    return (max(values) - min(values)) / 2 / (statistics.median(values) or 1)


def row_text(row, result):
    """A Markdown table of one row, a line per contender."""
    first = row.figures[0]
    peers = [name for name in ("haproxy", "nginx", "tidegate") if name in result["contenders"]]
    labels = [LABELS.get(figure, figure) for figure in row.figures]
    head = ["", labels[0], "+-", *labels[1:], *(f"/ {peer}" for peer in peers)]
    lines = [f"**{row.title}** (`{row.name}`)", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, figures in result["contenders"].items():
        cells = [name, *(shown(figure, figures.get(figure)) for figure in row.figures)]
        cells.insert(2, f"{100 * spread(figures, first):.0f} %")
        for peer in peers:
            value = ratio(result, first, name, peer) if name != "direct" else None
            cells.append("-" if value is None or peer == name else f"{value:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"- failed: {problem}" for problem in result["problems"]]
    return "\n".join(lines) + "\n"


def tables(results):
    parts = [row_text(row, results["rows"][row.name]) for row in all_rows() if row.name in results["rows"]]
    return "\n".join(parts)


def verdict(target, results, name="tidegate"):
    """Figure, what it is divided by, and whether that is enough; None when it was not measured."""
    row = results["rows"].get(target.row)
    if row is None or target.figure not in row["contenders"].get(name, {}):
        return None
    own = row["contenders"][name][target.figure]
    if target.peers is None:
        return own, "", own, own <= target.most
    ratios = {peer: ratio(row, target.figure, name, peer) for peer in target.peers}
    ratios = {peer: value for peer, value in ratios.items() if value is not None}
    if not ratios:
        return None
    better = max(ratios, key=ratios.get)
    value = ratios[better]
    return own, f"{better} {shown(target.figure, row['contenders'][better][target.figure])}", value, value <= target.most


def acceptance(results, names=None):
    """`names`: only the targets of these rows."""
    host = results["host"]
    lines = [
        f"{host.get('cores')} cores of {host.get('cpu')}, Linux {host.get('kernel')}, TCP {host.get('congestion')}; medians.",
        "",
        "| | tidegate | best peer | ratio | target | |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        if names is not None and target.row not in names:
            continue
        found = verdict(target, results)
        if found is None:
            lines.append(f"| {target.title} | - | - | - | <= {target.most:.2f} | not measured |")
            continue
        own, peer, value, good = found
        unit = LABELS.get(target.figure, target.figure)
        lines.append(
            f"| {target.title} ({unit}) | {shown(target.figure, own)} | {peer} | {value:.3f} | <= {target.most:.2f}"
            f" | {'met' if good else '**missed**'} |"
        )
    return "\n".join(lines) + "\n"


def missed(results, names):
    """Titles of the targets on these rows that were not met. One that could not be computed was not met."""
    found = {target.title: verdict(target, results) for target in TARGETS if target.row in names}
    return [title for title, one in found.items() if one is None or not one[3]]


def million(results, points):
    """Memory for a million connections, from bytes at rest and the kernel's bytes per socket where most were open."""
    kernel = 2 * float(max(points, key=lambda point: int(point["connections"]))["kernel bytes per socket"])
    lines = ["| | of the process | of the kernel | a million, GB |", "|---|---|---|---|"]
    for row, word in (("idle-plain", "plain"), ("idle-tls", "TLS")):
        for name, figures in results["rows"].get(row, {"contenders": {}})["contenders"].items():
            own = figures["bytes"]
            lines.append(f"| {name}, {word} | {own:.0f} B | {kernel:.0f} B | {(own + kernel) / 1000:.1f} |")
    return "\n".join(lines) + "\n"


def publish(folder, document):
    """Writes what `folder` has between the markers of the document, and the picture beside it."""
    results = load(folder)
    parts = {"acceptance": acceptance(results), "rows": tables(results)}
    if (folder / "scale.md").exists():
        parts["scale"] = (folder / "scale.md").read_text()
        parts["million"] = million(results, json.loads((folder / "scale.json").read_text()))
    if (folder / "micro.txt").exists():
        lines = (folder / "micro.txt").read_text().splitlines()
        parts["micro"] = "\n".join(line for line in lines if line.startswith("|")) + "\n"
    text = document.read_text()
    for name, part in parts.items():
        marker = f"<!-- {name}: written by scripts/bench.sh --publish -->\n"
        before, rest = text.split(marker)
        _, after = rest.split("<!-- end -->", 1)
        text = before + marker + part + "<!-- end -->" + after
        print(f"{document}: {name}")
    document.write_text(text)
    shutil.copy(folder / "bench.svg", document.parent / "bench.svg")


def picture(path, results):
    groups = []
    for row in all_rows():
        result = results["rows"].get(row.name)
        if result is None or not result["contenders"]:
            continue
        figure = row.figures[0]
        bars = {name: figures[figure] for name, figures in result["contenders"].items() if name != "direct"}
        groups.append((row.title, LABELS.get(figure, figure), bars))
    plot.bars(path, "Cost per unit, less is better", groups)
