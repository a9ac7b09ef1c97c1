"""The stations of the line, one a file, each a `Stage`."""
