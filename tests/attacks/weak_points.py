"""Weak points seen in other tools, and the attack or test that shows that they are not here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Number, what is wrong elsewhere, and names of attacks (``A4 ...``) or tests (``path::name``).
WEAK_POINTS: Mapping[int, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        1: ("a separator of ones under another type is not noticed", ("A4 a separator of ones by another name",)),
        2: ("types are checked against a table that lacks real ones", ("tests/test_registry.py::test_unknown_event_types_are_kept", "tests/log/test_corpus.py::test_reading")),
        3: ("a register without events is not compared; StartupLocality counts anywhere", ("A22 a register that the log leaves out", "A21 a late StartupLocality", "A21 StartupLocality twice")),
        4: ("any bank that replays is enough", ("A10 sha1 is right, sha256 is not", "A10 a quote over sha1 alone")),
        5: ("an unknown type ends in endless recursion", ("tests/test_registry.py::test_unknown_event_types_are_kept", "tests/log/test_eventlog.py::test_event")),
        6: ("SecureBoot other than 0 and 1 is off; an empty PCR 7 and a missing separator are no error", ("A28 SecureBoot is 02", "A28 nothing in PCR 7", "A6 no separator in PCR 7")),
        7: ("digests that do not belong to the data are a warning that nobody reads", ("A47 a digest of the value alone", "tests/appraisal/test_properties.py::test_the_data_beside_a_digest_changed")),
        8: ("StartupLocality counts after extends; an unknown algorithm is read with size 0; sizes overflow", ("A21 a late StartupLocality", "A33 4 GiB of event data", "tests/formats/test_framing.py::test_unknown_algorithms_are_kept")),
        9: ("the attested selection is thrown away, values are compared without leading zeros, the nonce in two encodings", ("A13 values under other indices", "A13 values cut elsewhere", "A15 the nonce in another encoding", "tests/log/test_eventlog.py::test_values_that_do_not_agree")),
        10: ("components are told by position and by text that no digest covers", ("A2 another kernel under the same path", "A2 another kernel file of the same name", "A3 components in another order")),
        11: ("lengths are allocated before they are compared; names are measured by writing them back", ("A33 a name of 2^63 characters", "A33 a value of 2^64-1 bytes", "A29 a longer name")),
        12: ("every EV_NO_ACTION is taken for the header, the first digest for the only one", ("tests/replay/test_pcr.py::test_sound_starts", "tests/replay/test_pcr.py::test_any_events_in_any_bank")),
        13: ("a log of the SHA-1 format fails; the header is shared state", ("tests/log/test_corpus.py::test_replay_is_that_of_a_plain_loop", "tests/evidence/test_evidence.py::test_a_log_in_the_sha1_format")),
        14: ("an event without a digest of the bank is passed over", ("A19 a digest too few", "tests/log/test_eventlog.py::test_a_bank_with_a_missing_digest_is_refused_and_the_other_is_not")),
        15: ("a register without a record is not compared", ("A22 a register that the log leaves out", "A9 firmware registers at their start values")),
        16: ("a log is refused for its uintn size; unlisted types are hashed whole", ("tests/formats/test_framing.py::test_the_uintn_size_is_kept_and_means_nothing", "tests/replay/test_digests.py")),
        17: ("EV_NO_ACTION events other than the first are an error", ("tests/replay/test_pcr.py::test_sound_starts", "tests/log/test_corpus.py::test_reading")),
    }
)  # fmt: skip
