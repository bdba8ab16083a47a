"""The command line: ``accredit``. Every import that costs something is made by the command that needs it."""
