"""The documentation; what makes a site of it is in :mod:`docs.site_builder`."""
