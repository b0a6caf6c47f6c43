"""How figures are made: what they show, how it looks, where it is placed."""
