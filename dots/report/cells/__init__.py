"""Cells as text, as pictures in files and as drawings in a page."""
