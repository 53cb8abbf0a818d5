"""Measuring what the models do: alignment of pictures with captions, and the reader that judges it.

evaluate.alignment(images, captions)          # a verdict per image, with reasons
evaluate.report(cascade)                      # the alignment table, with intervals
evaluate.reader_scores()                      # how well the reader reads renders
"""

from imagen_lite.evaluate.alignment import Verdict, alignment, judge
from imagen_lite.evaluate.alignment_report import format_report, report
from imagen_lite.evaluate.reader import format_scores, reader_scores

__all__ = ["Verdict", "alignment", "format_report", "format_scores", "judge", "reader_scores", "report"]
