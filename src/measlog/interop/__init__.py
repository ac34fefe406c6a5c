"""The formats of neighbouring tools."""
