"""The jobs wing: submit description, parse, translate, submit, watch, fetch."""
