"""Structures as their specifications print them, and the framing of logs. The only room that imports construct."""
