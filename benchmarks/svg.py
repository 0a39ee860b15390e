"""The few shapes of SVG that all plots are made of, and their colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, FAINT, GOAL = "#24292f", "#d0d7de", "#cf222e"
COLOURS = ("#0969da", "#bf8700", "#1a7f37", "#8250df", "#bc4c00", "#57606a")


def text(
    x: float, y: float, text: str, colour: str = INK, anchor: str = "start", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = ""
) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}" stroke-width="{width:g}"{dashes}/>'
    )


def dot(x: float, y: float, colour: str, title: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" fill-opacity="0.8">'
        f"<title>{escape(title)}</title></circle>"
    )


def document(width: float, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def path(points: Sequence[tuple[float, float]], colour: str, width: float = 1.5) -> str:
    """A line through points."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
