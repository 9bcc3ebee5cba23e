"""What a record becomes for other programs. Each module here takes the lines of a record and nothing else."""
