"""The process on each device."""
