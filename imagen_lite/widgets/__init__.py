"""Explorers for notebooks and lectures: same noise, different knob.

widgets.GuidanceExplorer()                    # w and thresholding; prepared prompts answer without the kernel
widgets.DenoisingScrubber()                   # x_t and x0, step by step
widgets.SaturationExplorer()                  # where the predicted x0 leaves [-1, 1]
widgets.CascadeExplorer()                     # 64 → 256 → 1024, by augmentation level and guidance
widgets.AttentionMaps(widgets.word_maps(cascade, prompt))  # which word each place looks at
widgets.DrawBenchRater(pairs, names)          # two sets of pictures a prompt, two questions, three answers
"""

from imagen_lite.widgets.attention import AttentionMaps, WordMaps, word_maps
from imagen_lite.widgets.cascade import CascadeExplorer, detail_sheet
from imagen_lite.widgets.enlarged import Enlarged, enlarge_all, load_enlarged
from imagen_lite.widgets.guidance import GuidanceExplorer
from imagen_lite.widgets.lecture import Lecture
from imagen_lite.widgets.rater import DrawBenchRater
from imagen_lite.widgets.steps import DenoisingScrubber, SaturationExplorer
from imagen_lite.widgets.sweep import Sweep, load_sweep, sample_sweep
from imagen_lite.widgets.trace import Trace, load_trace, sample_trace

__all__ = [
    "AttentionMaps", "CascadeExplorer", "DenoisingScrubber", "DrawBenchRater", "Enlarged", "GuidanceExplorer",
    "Lecture", "SaturationExplorer", "Sweep", "Trace", "WordMaps", "detail_sheet", "enlarge_all", "load_enlarged",
    "load_sweep", "load_trace", "sample_sweep", "sample_trace", "word_maps",
]  # fmt: skip
