"""Conformance suites, generators and doubles: shipped, for third parties too."""
