"""The ``measlog`` command, one module per command."""
