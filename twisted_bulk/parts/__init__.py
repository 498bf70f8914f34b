"""Making the parts of batches, and housekeeping.

For others: maker.PartMaker, janitor.Janitor.
"""
