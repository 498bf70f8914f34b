"""A batch as data: its parts and members, names in the archive, how it is shown.

Pure, but for the files of manifests.

For others: model, names, report, masks, manifest_file.
"""
