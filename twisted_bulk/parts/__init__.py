"""A part of a batch, from its job to its zip, and housekeeping.

For others: maker.PartMaker, janitor.Janitor.
"""
