"""The cut that follows network and load: what is seen, what holds, which loaded cut is best."""
