"""What users do with batches: hand in, find, watch, retry, cancel, delete, also many at once.

It knows nothing of HTTP.

For others: batch_filter.Asked, bulk.Bulk, intake.Intake, members.AskedMembers, services.
"""
