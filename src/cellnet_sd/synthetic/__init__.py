"""A tissue that never was, but whose every truth is known: one module per thing that must agree with the others."""
