"""List schedules, and how a schedule becomes stages."""
