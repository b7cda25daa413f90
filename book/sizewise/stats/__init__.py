"""Bootstrap, paired differences, sequences of looks."""
