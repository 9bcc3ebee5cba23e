"""Words to calls, errors to exit statuses."""
