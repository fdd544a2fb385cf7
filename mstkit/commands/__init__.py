"""The commands of ``mstkit COMMAND``: each is one file ``NAME_command.py``, found by its name.

Such a file has a docstring whose first line is a sentence and the command line, the name of its group in ``mstkit
--help`` (:data:`mstkit.commands.command_table.GROUPS`), ``parse_args`` and ``main``. Nothing is imported before the
command that is run, so that ``mstkit --help`` answers at once, and ``mstkit doctor`` also where torch is broken.
"""
