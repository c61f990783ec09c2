"""One file per verb: its options, its help, and which answer it prints."""
