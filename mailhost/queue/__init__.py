"""Accepted mail until it is delivered: the durable spool and its dispatch."""
