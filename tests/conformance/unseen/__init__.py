"""Wrong and unusual implementations that the diagnosis was not made with: `python -m tests.conformance.unseen`."""
