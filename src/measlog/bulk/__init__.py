"""Fleets: columns of evidence in, columns of verdicts out.

The same answers as the scalar path gives row by row, proven by the same tests; needs the extra ``arrow``.
"""
