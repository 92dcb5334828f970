"""What a run can be told: its fields, their command-line options, and the checks before anything is trained."""
