"""The words for which plans a bound holds. One place, so that what is claimed can be checked.

`FULL` is formats.md's: any untiled plan. "Two stages" is worded by `search.scope_of`.
"""

from typing import Final

FULL: Final = "full"
ONE_STAGE: Final = "plans of one stage"
STAGE_PER_DEVICE: Final = "plans of one stage a device"
PIPELINES: Final = "pipelines: plans of one stage a device, each of whole blocks"
