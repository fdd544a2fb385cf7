"""The version; setup.py reads this file as text, so that building the package imports nothing."""

__version__ = '0.2.0'
