from oracle import probability_up, value_below_and_above  # noqa: F401
