"""A small plot of how a job grows, as SVG text: both axes logarithmic, one line a measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 360, 260
LEFT, TOP, RIGHT, BOTTOM = 58, 30, 14, 44
COLOURS = ("#1d4e89", "#c0392b", "#2e7d32")


def _ticks(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _word(value: float) -> str:
    for size, mark in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{mark}"
    return f"{value:g}"


def panel(x0: int, y0: int, title: str, x_name: str, lines: dict[str, Sequence[tuple[float, float]]]) -> str:
    """One plot at (x0, y0). lines: name -> points."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points if y > 0]
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys) * 1.01)

    def at(x: float, y: float) -> tuple[float, float]:
        spans = [(ticks[0], ticks[-1] if ticks[-1] > ticks[0] else ticks[0] * 10) for ticks in (x_ticks, y_ticks)]
        shares = [math.log(value / low) / math.log(high / low) for value, (low, high) in zip((x, max(y, y_ticks[0])), spans, strict=True)]
        return x0 + LEFT + shares[0] * (WIDTH - LEFT - RIGHT), y0 + HEIGHT - BOTTOM - shares[1] * (HEIGHT - TOP - BOTTOM)

    drawn = [f'<text x="{x0 + LEFT}" y="{y0 + 18}" class="t">{escape(title)}</text>']
    for tick in x_ticks:
        x, y = at(tick, y_ticks[0])
        drawn.append(f'<path d="M{x:.1f} {y:.1f}V{y0 + TOP}" class="g"/><text x="{x:.1f}" y="{y + 14:.1f}" class="c">{_word(tick)}</text>')
    for tick in y_ticks:
        x, y = at(x_ticks[0], tick)
        drawn.append(f'<path d="M{x:.1f} {y:.1f}H{x0 + WIDTH - RIGHT}" class="g"/>')
        drawn.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" class="e">{_word(tick)}</text>')
    drawn.append(f'<text x="{x0 + (LEFT + WIDTH) / 2:.0f}" y="{y0 + HEIGHT - 12}" class="c">{escape(x_name)}</text>')
    for place, (name, points) in enumerate(lines.items()):
        colour, where = COLOURS[place % len(COLOURS)], [at(x, y) for x, y in points]
        drawn.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in where)}"/>'
        )
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in where]
        drawn.append(f'<text x="{x0 + LEFT + 8}" y="{y0 + TOP + 14 + 14 * place}" fill="{colour}">{escape(name)}</text>')
    return "\n".join(drawn)


def plotted(figures: dict[str, Any]) -> str:
    """Four panels: time and bytes, by rows and by owners; those that were measured."""
    panels = []
    for part, x_key, x_name in (("by_rows", "rows", "rows, three owners together"), ("by_owners", "owners", "owners")):
        rows = figures[part]
        if len(rows) < 2:
            continue
        times = {
            w: [(r[x_key], r[k]) for r in rows] for w, k in (("first job", "cold_s"), ("again", "warm_s"), ("logistic round", "irls_s"))
        }
        sizes = {w: [(r[x_key], r[k]) for r in rows] for w, k in (("moments", "warm_bytes"), ("logistic round", "irls_bytes"))}
        panels += [("seconds a job", x_name, times), ("bytes that an owner sends a job", x_name, sizes)]
    parts = [panel(WIDTH * (k % 2), HEIGHT * (k // 2), *words) for k, words in enumerate(panels)]
    height = HEIGHT * ((len(panels) + 1) // 2)
    style = "text{font:11px sans-serif}.t{font-weight:bold}.c{text-anchor:middle}.e{text-anchor:end}.g{stroke:#ddd;fill:none}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" role="img" aria-label="Time and bytes of a job">'
    return "\n".join([head, f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])
