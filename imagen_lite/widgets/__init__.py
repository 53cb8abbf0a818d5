"""Explorers for notebooks and lectures: same noise, different knob.

widgets.GuidanceExplorer()                    # w and thresholding; prepared prompts answer without the kernel
"""

from imagen_lite.widgets.guidance import GuidanceExplorer
from imagen_lite.widgets.sweep import Sweep, load_sweep, sample_sweep

__all__ = ["GuidanceExplorer", "Sweep", "load_sweep", "sample_sweep"]
