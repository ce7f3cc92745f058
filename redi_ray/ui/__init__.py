"""`redi-ray ui`: pages over any number of runs, for people to look at. It reads, and writes nothing."""
