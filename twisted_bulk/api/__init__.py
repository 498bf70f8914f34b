"""The API behind :mod:`twisted_bulk.web`: batches taken in, shown, tried again; who may do so.

For others: admission.Admission, events.BatchEvents, file_port.FilePort,
intake.Intake, manifest.Manifests, messages, openapi.document,
tokens.
"""
