"""Blocks that several steps share: spatial order, operations on ragged segments, attention."""
