"""Connections per endpoint over time, as SVG: one panel per way of balancing, one line per endpoint."""

import html

WIDTH, HEIGHT, MARGIN, LEGEND = 420, 260, 48, 24
COLOURS = ["#1b6ca8", "#d1495b", "#2e933c", "#edae49", "#6a4c93", "#00798c", "#8d5524", "#5f6b6d", "#b5179e", "#33658a"]


def draw(path, title, panels):
    """`panels`: (label, {unix ms: {endpoint: count}}) each; all have the same axes, so that they can be compared."""
    panels = [(label, series) for label, series in panels if series]
    if not panels:
        return
    top = max(max(row.values()) for _, series in panels for row in series.values()) or 1
    span = max(max(series) - min(series) for _, series in panels) or 1
    width = len(panels) * WIDTH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + LEGEND}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{HEIGHT + LEGEND}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="16" font-size="13">{html.escape(title)}</text>',
    ]
    for index, (label, series) in enumerate(panels):
        parts.append(f'<g transform="translate({index * WIDTH},{LEGEND})">{panel(label, series, top, span)}</g>')
    parts.append("</svg>\n")
    path.write_text("\n".join(parts), encoding="utf-8")


def panel(label, series, top, span):
    right, bottom = WIDTH - 16, HEIGHT - 28
    start = min(series)

    def place(at, count):
        x = MARGIN + (at - start) / span * (right - MARGIN)
        return f"{x:.1f},{bottom - count / top * (bottom - 24):.1f}"

    parts = [f'<text x="{MARGIN}" y="14">{html.escape(label)}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - share * (bottom - 24)
        parts.append(f'<line x1="{MARGIN}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 4}" y="{y + 4:.1f}" text-anchor="end">{share * top:.0f}</text>')
        x = MARGIN + share * (right - MARGIN)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{share * span / 1000:.1f} s</text>')
    # A few hundred points are all that a panel can show.
    times = list(series)[:: max(1, len(series) // 400)]
    for index, endpoint in enumerate(sorted(series[start])):
        points = " ".join(place(at, series[at][endpoint]) for at in times)
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{points}"><title>{endpoint}</title></polyline>')
    return "\n".join(parts)


def bars(path, title, groups):
    """`groups`: (label, unit, {name: value}) each; a group is scaled by its largest value, which is written on the bars."""
    row, gap, left, right = 13, 12, 300, 560
    names = list(dict.fromkeys(name for _, _, values in groups for name in values))
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    parts = [f'<text x="8" y="18" font-size="13">{html.escape(title)}</text>']
    for index, name in enumerate(names):
        x = 8 + 90 * index
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{colour[name]}"/>')
        parts.append(f'<text x="{x + 14}" y="35">{html.escape(name)}</text>')
    y = 50
    for label, unit, values in groups:
        top = max(values.values(), default=0) or 1
        parts.append(f'<text x="8" y="{y + row - 3}">{html.escape(label)}</text>')
        parts.append(f'<text x="{left - 6}" y="{y + row - 3}" text-anchor="end" fill="#777">{html.escape(unit)}</text>')
        for name, value in values.items():
            width = max(1.0, value / top * (right - left))
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{row - 2}" fill="{colour[name]}"/>')
            parts.append(f'<text x="{left + width + 4:.1f}" y="{y + row - 4}" font-size="10">{value:.4g}</text>')
            y += row
        y += gap
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 60} {y}" font-family="sans-serif" font-size="11">'
    back = f'<rect width="{right + 60}" height="{y}" fill="#fff"/>'
    path.write_text("\n".join([head, back, *parts, "</svg>\n"]), encoding="utf-8")
