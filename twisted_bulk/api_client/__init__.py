"""Clients of the API for Python programs: one set of calls over two ways of sending them.

For others: sync_client.Client, async_client.AsyncClient, failures, download, extraction.extract,
webhook.verify, fields, events.ENDED.
"""
