"""Split a trained network over the devices you have."""
