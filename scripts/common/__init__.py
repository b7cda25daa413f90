"""What several recordings share: public tables and how they are read, and analyses of them."""
