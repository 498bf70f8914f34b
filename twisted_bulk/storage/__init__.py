"""The data folder of a node: unfinished work in ``spool/``, finished zips in ``public/``.

For others: names, folders, workspace.Workspace.
"""
