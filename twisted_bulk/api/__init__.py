"""The intake API behind :mod:`twisted_bulk.web`: requests read and checked, batches taken in and
shown, tokens.

For others: intake.Intake, order.read_order, submission, tokens, openapi.document,
manifest.Manifests.
"""
