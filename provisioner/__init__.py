"""Every Git branch gets its own isolated databases, automatically."""

__version__ = "0.2.0.dev0"

TYPE_CHECKING = False  # as typing's, whose import would be felt by every hook
if TYPE_CHECKING:
    from provisioner.kv.client.sync_client import open_kv as open_kv


def __getattr__(name: str) -> object:
    """`open_kv`, imported when it is used: the hooks and `exec` start without it."""
    if name == "open_kv":
        from provisioner.kv.client.sync_client import open_kv

        return open_kv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
