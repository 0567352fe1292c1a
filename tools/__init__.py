"""The long steps behind build.py, one module a step. Nothing here is part of the wheel."""
