"""What clients order: bodies of requests, checked, and batches cut into parts. Knows no HTTP.

For others: order, outline, submission, grouping.
"""
