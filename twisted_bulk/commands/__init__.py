"""The command ``bulkwav``: what users of a server do from a shell.

For others: main.main.
"""
