"""bulkwav: batches of URLs in, one throttled and resumable zip out."""

__version__ = "0.1.0"
