"""What the machine says, and the proof that it is what a TPM signed."""

from measlog.evidence.evidence import Evidence, VerifiedEvidence
from measlog.evidence.keys import AttestationKey, ObjectAttributes
from measlog.evidence.quote import Quote

__all__ = ["AttestationKey", "Evidence", "ObjectAttributes", "Quote", "VerifiedEvidence"]
