"""The least period on many devices: pipelines of whole blocks, chains of down-sets, bounds."""
