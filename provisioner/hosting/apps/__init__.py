"""The apps of timelines: what runs, what is to run, and what requests wait for."""
