"""The graph that both fronts build and that passes rewrite: frozen nodes over named values."""
