"""Asking an implementation: what is plugged in, what it can be asked, and how a call is made."""
