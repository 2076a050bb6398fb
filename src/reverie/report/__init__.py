"""What a run looks like to a reader: its page, its curves, its citations."""
