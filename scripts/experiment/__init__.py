"""What the experiments share: processes, series of counts, pictures. Python's standard library alone."""
