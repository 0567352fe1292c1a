"""The search demo: sentences in, ranked sentences out, computed by tilework in the browser."""
