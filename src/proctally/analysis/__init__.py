"""What records prove: measures, comparison, evidence, advice."""
