"""The command line; each module prints the results of its own commands."""
