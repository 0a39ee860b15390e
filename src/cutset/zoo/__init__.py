"""Models for tests and benchmarks: architectures with seeded weights, and installed ones."""

from cutset.zoo.architectures import ARCHITECTURES, build
from cutset.zoo.found import PRETRAINED, light, light_names, pretrained

__all__ = ["ARCHITECTURES", "PRETRAINED", "build", "light", "light_names", "pretrained"]
