"""Elements as text: one place where names and words that others wrote are escaped."""

from __future__ import annotations

from html import escape


def words(value: object) -> str:
    """Text for the page: escaped, and without what could steer how it is shown."""
    return escape(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    )


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element; children are markup already, attributes are escaped here.

    `class_` is "class", other underscores are hyphens; None leaves an attribute out.
    """
    inside = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{inside}>{''.join(children)}</{name}>"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return words(value)


def label(x: float, y: float, text: object, **attributes: object) -> str:
    """A line of text in a picture."""
    return tag("text", words(text), x=float(x), y=float(y), **attributes)


def title(text: object) -> str:
    """What is shown while the pointer rests on an element."""
    return tag("title", words(text))


def box(x: float, y: float, width: float, height: float, *inside: str, **rest: object) -> str:
    return tag(
        "rect", *inside, x=float(x), y=float(y), width=float(width), height=float(height), **rest
    )


def clipped(text: str, most: int) -> str:
    """At most `most` characters; the end of a name tells more than its middle."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def picture(width: float, height: float, *children: str, about: str) -> str:
    """An inline SVG with what it shows in words, for those who do not see it."""
    return tag(
        "svg",
        title(about),
        *children,
        width=round(width),
        height=round(height),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
    )
