"""The command line: one short file a verb, imported only when its verb runs."""
