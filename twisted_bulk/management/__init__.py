"""What users do with batches: hand in, find, watch, retry, cancel, delete, also many at once.

It knows nothing of HTTP.

For others: bulk.Bulk, intake.Intake, probing.probes, probing.sample, services.
"""
