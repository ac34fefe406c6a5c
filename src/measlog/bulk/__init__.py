"""Fleets: columns of evidence in, columns of verdicts out.

The same answers as the scalar path gives row by row, proven by the same tests; needs the extra ``arrow``.
"""

from measlog.bulk.appraise import Appraiser, appraise
from measlog.bulk.schema import TableError

__all__ = ["Appraiser", "TableError", "appraise"]
