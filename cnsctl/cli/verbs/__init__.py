"""One file per verb: its options, its help, and the result that it prints."""
