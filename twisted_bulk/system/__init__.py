"""Ground: files, the log, the process's limits and addresses. Knows nothing of batches.

All of it is for everybody.
"""
