"""What a model costs: bytes, floors in time, energy and money, training, serving experts."""
