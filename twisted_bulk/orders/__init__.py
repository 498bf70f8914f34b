"""What clients order: bodies of requests, checked, and batches cut into parts. Knows no HTTP.

For others: decoding, order, outline, preflight, queries, submission, grouping.
"""
