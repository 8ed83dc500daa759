"""Rotary embeddings that were released wrong, written small: each with its bug, and with exactly that bug removed."""
