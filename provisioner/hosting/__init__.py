"""The app of each timeline: checked out, built, started, reached by its own URL, and stopped when it is idle."""
