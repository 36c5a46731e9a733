"""One file a verb: its options, and a call into the package after parsing."""
