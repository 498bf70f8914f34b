"""The API behind :mod:`twisted_bulk.web`: who may call, calls and their bodies, the description.

For others: answers, plans, admission.Admission, bulk_calls.BulkCalls, file_port.FilePort, messages,
openapi.document, operator_calls.OperatorCalls, tokens.
"""
