"""The page for people: HTML, CSS and JavaScript in ``static/``, and how they are served.

For others: resource.
"""
