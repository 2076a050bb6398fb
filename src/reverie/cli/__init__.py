"""The command line: one file a verb, each thin: parse, call the library, print. No verb imports torch to be listed."""
