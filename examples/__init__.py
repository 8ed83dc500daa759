"""Adapters that plug other people's rotary embeddings, and ours, into the conformance kit."""
