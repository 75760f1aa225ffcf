"""Studies: many searches and trainings that together answer one question, and the table of their results."""
