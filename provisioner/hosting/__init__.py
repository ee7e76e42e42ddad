"""An app of each timeline: checked out, built, started, reached by a URL of its own, and put to sleep when it is idle."""
