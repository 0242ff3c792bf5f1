"""The command line as all commands share it: errors in one line, Ctrl-C, options that are numbers."""
