"""Everything is in pyproject.toml but the extension module, which setuptools takes from here."""

from setuptools import setup

setup(cffi_modules=["src/pylb/_build.py:builder"])
