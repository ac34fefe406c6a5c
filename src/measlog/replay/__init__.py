"""Registers and digests: what a log gives, and whether its data gives its digests."""
