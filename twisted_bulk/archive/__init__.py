"""The zip writer: members in, finished zips out, on threads and processes of its own.

For others: writer.Archive, volumes.ClosedZip, member_sink.MemberSink, pack_threads.PackThreads,
zip_member.

``encoder`` is also a program, which imports nothing of Twisted.
"""
