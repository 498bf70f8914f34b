"""A batch as data: its parts and members, names in the archive, how it is shown.

Nothing here does I/O, apart from manifest_file.

For others: expectations, model, names, source_names, report, delivery.time_text, masks,
manifest_file, member_index, selection, failure_counts.
"""
