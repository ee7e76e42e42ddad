"""The HTTP router in front of the apps: Caddy, which finds routes in files, and the gateway that it asks about the rest."""
