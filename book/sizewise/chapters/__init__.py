"""What only the book needs: claims, running notebooks, tables and figures of chapters."""
