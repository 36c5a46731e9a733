"""Rules for data sets: report every problem in one pass, stop training at the first error, repair."""
