"""Makes a site of the pages in the repository, the configs and the docstrings; ``docs/build.py`` runs it."""
