"""A comparison as one HTML page that needs nothing else: no network, no files, no server."""

from cutset.page.html import render, write_page

__all__ = ["render", "write_page"]
