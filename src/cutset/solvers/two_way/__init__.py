"""Plans of at most two stages: all cuts of a graph as columns, min-cuts, the envelope."""
