"""The command line: parse, call a service, render. How a command is written is told in output.py."""
