"""Exact machinery that strategies share."""
