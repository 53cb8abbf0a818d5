"""Measuring what the models do: alignment of pictures with captions, and the reader that judges it.

evaluate.alignment(images, captions)          # a verdict per image, with reasons
evaluate.report(cascade)                      # the alignment table, with intervals
evaluate.reader_scores()                      # how well the reader reads renders
evaluate.saturated_share(images)              # and outside_share, colorfulness, contrast: a number per image
"""

from imagen_lite.evaluate.alignment import Verdict, alignment, judge
from imagen_lite.evaluate.alignment_report import format_report, report
from imagen_lite.evaluate.saturation import colorfulness, contrast, outside_share, saturated_share
from imagen_lite.scenes.reader_scores import format_scores, reader_scores

__all__ = [
    "Verdict", "alignment", "colorfulness", "contrast", "format_report", "format_scores", "judge", "outside_share",
    "reader_scores", "report", "saturated_share",
]  # fmt: skip
