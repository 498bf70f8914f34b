"""The operating system and Twisted: files, logs, processes, addresses. Knows nothing of batches.

For others: all modules.
"""
