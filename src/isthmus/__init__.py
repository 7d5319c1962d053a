"""Isthmus: an open, self-hosted exchange for industrial AI."""

__version__ = "0.1.0"
