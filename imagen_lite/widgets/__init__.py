"""Explorers for notebooks and lectures: same noise, different knob.

widgets.GuidanceExplorer()                    # w and thresholding; prepared prompts answer without the kernel
widgets.DenoisingScrubber()                   # x_t and x0, step by step
widgets.SaturationExplorer()                  # where the predicted x0 leaves [-1, 1]
"""

from imagen_lite.widgets.guidance import GuidanceExplorer
from imagen_lite.widgets.steps import DenoisingScrubber, SaturationExplorer
from imagen_lite.widgets.sweep import Sweep, load_sweep, sample_sweep
from imagen_lite.widgets.trace import Trace, load_trace, sample_trace

__all__ = [
    "DenoisingScrubber", "GuidanceExplorer", "SaturationExplorer", "Sweep", "Trace", "load_sweep", "load_trace",
    "sample_sweep", "sample_trace",
]  # fmt: skip
