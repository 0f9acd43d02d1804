"""What the quickstart needs and no hub gives: a tiny policy, and word problems that a Python interpreter helps with."""
