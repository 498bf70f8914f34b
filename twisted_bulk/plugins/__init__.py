"""The twistd plugin; ``twisted/plugins/bulkwav.py`` is where twistd looks for it."""
