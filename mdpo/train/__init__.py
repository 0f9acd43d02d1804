"""Trainers: thin layers on TRL's, with our data in and the paper's losses out."""
