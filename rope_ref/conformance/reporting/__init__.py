"""Telling it: findings as values, text, JSON, XML and lines of Python."""
