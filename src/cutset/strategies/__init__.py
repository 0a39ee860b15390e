"""Planning algorithms, one a file."""
