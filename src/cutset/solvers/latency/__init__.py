"""The least latency of one request on many devices: blocks between articulations, solved apart."""
