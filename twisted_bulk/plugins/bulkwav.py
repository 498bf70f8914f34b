"""The ``twistd bulkwav`` command: a name and a pointer, nothing else."""

from twisted.application.service import ServiceMaker

bulkwav = ServiceMaker(
    "Bulk downloads",
    "twisted_bulk.service",
    "Fetch batches of URLs into zips and hand them out at a fixed rate per client.",
    "bulkwav",
)
