"""Bootstrap, paired differences, calibration."""
