"""The API behind :mod:`twisted_bulk.web`: orders are read and checked, batches taken in and shown.

For others: admission.Admission, intake.Intake, manifest.Manifests, messages,
openapi.document, order.read_order, submission, tokens.
"""
