"""What the guides tell people to do is done here."""
