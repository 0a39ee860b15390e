"""The main job, shown on this machine: reading a page with the work split over two devices."""
