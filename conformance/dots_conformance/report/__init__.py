"""Reports of a comparison: for people a page and a summary, for continuous integration JUnit XML."""
