"""What every layer may use: dtypes, shapes, errors, settings. Imports nothing of tilework's."""
