"""What the published throughput methods share: points, partitions, colour coding."""
