"""GRUB's error numbers (include/grub/err.h): what ``$?`` shows."""

from __future__ import annotations

import enum

__all__ = ["Status"]


class Status(enum.IntEnum):
    """``grub_err_t``."""

    NONE = 0
    TEST_FAILURE = 1
    BAD_MODULE = 2
    OUT_OF_MEMORY = 3
    BAD_FILE_TYPE = 4
    FILE_NOT_FOUND = 5
    FILE_READ_ERROR = 6
    BAD_FILENAME = 7
    UNKNOWN_FS = 8
    BAD_FS = 9
    BAD_NUMBER = 10
    OUT_OF_RANGE = 11
    UNKNOWN_DEVICE = 12
    BAD_DEVICE = 13
    READ_ERROR = 14
    WRITE_ERROR = 15
    UNKNOWN_COMMAND = 16
    INVALID_COMMAND = 17
    BAD_ARGUMENT = 18
    BAD_PART_TABLE = 19
    UNKNOWN_OS = 20
    BAD_OS = 21
    NO_KERNEL = 22
    BAD_FONT = 23
    NOT_IMPLEMENTED_YET = 24
    MENU = 27
    ACCESS_DENIED = 30
    NET_BAD_ADDRESS = 32
    BAD_SIGNATURE = 45
    RECURSION_DEPTH = 47
