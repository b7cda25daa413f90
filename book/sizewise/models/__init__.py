"""What a model is made of: configurations, checkpoint headers, exact counts."""
