"""Workers, coordinator and sessions: running plans on devices."""
