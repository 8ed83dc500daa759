"""What must hold: the properties, the cases that try them, and how near an answer must come."""
