"""What a launch runs on: a GPU, a dry run that only records, or the host; compilation, drivers and arguments are theirs."""
