"""Deployments: revisions that are checked out, built, and started."""
