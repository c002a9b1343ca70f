"""Results of a run for people: report.html and the model card."""
