"""The zip writer: members in, published files out; the data folder. Knows nothing of the network.

For others: writer.Archive, member_sink.MemberSink, pack_threads.PackThreads, folders,
volume.ZipMember.

``encoder`` is also a program of its own, which imports nothing of Twisted.
"""
