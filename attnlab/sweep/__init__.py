"""Many runs: settings and seeds as runs of one directory, carried out on this machine or by an engine."""
