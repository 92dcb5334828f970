"""What a command shares with the others: parsing, errors in one line, progress."""
