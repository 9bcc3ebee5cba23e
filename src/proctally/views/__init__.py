"""What a person looks at; reads records, writes text."""
