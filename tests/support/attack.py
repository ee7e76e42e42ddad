"""A hostile command: tries every way out of its sandbox, and prints what became of each: ``NAME refused`` or ``NAME GOT``.

Its only argument is a file with the paths and processes that it is after; it knows everything but what is in them.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

with open(sys.argv[1]) as file:
    TARGET: dict[str, Any] = json.load(file)
HOME, OTHER = TARGET["home"], TARGET["other"]
KEY, REGISTRY = f"{HOME}/keys/connect", f"{HOME}/registry.db"
DAEMON = int(TARGET["daemon"])
MINE = os.environ["DENO_KV_DEFAULT_PATH"]
LIBC = ctypes.CDLL(None, use_errno=True)
ATTACKS: dict[str, Callable[[], object]] = {}


def supervisor() -> int:
    """The process above that watches this one."""
    pid = os.getppid()
    while True:
        with open(f"/proc/{pid}/cmdline") as line:
            if "supervisor.py" in line.read():
                return pid
        with open(f"/proc/{pid}/stat") as stat:
            pid = int(stat.read().rpartition(") ")[2].split()[1])


PARENT = supervisor()


def attack(function: Callable[[], object]) -> Callable[[], object]:
    ATTACKS[function.__name__] = function
    return function


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(100)


def write(path: str, text: str = "hostile\n") -> None:
    with open(path, "a") as file:
        file.write(text)


def call(number: int, *words: Any) -> int:
    found = LIBC.syscall(
        ctypes.c_long(number), *[ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def mounted(source: str, target: str) -> str:
    if LIBC.mount(source.encode(), target.encode(), None, ctypes.c_ulong(4096), None):
        raise OSError(ctypes.get_errno(), "mount")
    return "mounted"


def simple(name: str, function: Callable[..., object], *words: object) -> None:
    ATTACKS[name] = lambda: function(*words)


simple("read the key", read, KEY)
simple("read the registry", read, REGISTRY)
simple("read the registry's log", read, f"{REGISTRY}-wal")
simple("list the home", os.listdir, HOME)
simple("list the databases", os.listdir, os.path.dirname(os.path.dirname(OTHER)))
simple("read another branch's database", read, OTHER)
simple("read another run's log", read, TARGET["log"])
simple("list the logs", os.listdir, f"{HOME}/log/runs")
simple("read the user's private key", read, TARGET["ssh"])
simple("read another checkout", read, TARGET["checkout"])
simple("read the repository", read, f"{TARGET['repository']}/config")
simple("follow a link of the revision", read, "link-to-the-key")
simple("write through a link of the revision", write, "link-to-the-registry")
simple("the root of itself", read, f"/proc/self/root{KEY}")
simple("the directory of itself", read, f"/proc/self/cwd/{'../' * 20}{KEY}")
simple("the way up", os.listdir, "../..")
simple("the way up to the home", read, "../../../keys/connect")
simple("hide a file by its mode", os.chmod, REGISTRY, 0)
simple("open the home to others by its mode", os.chmod, HOME, 0o777)
simple("change times", os.utime, REGISTRY, (1, 1))
simple("look at a file", os.stat, REGISTRY)
simple("truncate", os.truncate, OTHER, 0)
simple("delete", os.unlink, OTHER)
simple("rename", os.rename, REGISTRY, "taken")
simple("put its own key there", os.rename, "attack.py", KEY)
simple("hard link of a file", os.link, REGISTRY, "linked")
simple("hard link beside its database", os.link, OTHER, os.path.join(os.path.dirname(MINE), "linked"))
simple("symbolic link beside its database", os.symlink, REGISTRY, os.path.join(os.path.dirname(MINE), "linked"))
simple("directory beside its database", os.mkdir, os.path.join(os.path.dirname(MINE), "made"))
simple("hook of the repository", write, f"{TARGET['repository']}/hooks/post-receive")
simple("hook of another checkout", write, f"{os.path.dirname(TARGET['checkout'])}/.git/hooks/post-commit")
simple("the crontab", write, "/var/spool/cron/crontabs/root")
simple("the machine's crontab", write, "/etc/cron.d/hostile")
simple("preload for everyone", write, "/etc/ld.so.preload")
simple("code of provisioner", write, TARGET["code"])
simple("code that Python loads", write, os.path.join(sys.prefix, "lib", "sitecustomize.py"))
simple("profile of the shell", write, os.path.join(os.path.dirname(TARGET["ssh"]), "..", ".profile"))
simple("passwords of the machine", read, "/etc/shadow")
simple("the disk itself", read, TARGET["disk"])
simple("shared memory", os.listdir, "/dev/shm")
simple("kernel settings", write, "/proc/sys/kernel/core_pattern")
simple("environment of the supervisor", read, f"/proc/{PARENT}/environ")
simple("environment of the daemon", read, f"/proc/{DAEMON}/environ")
simple("root of the daemon", read, f"/proc/{DAEMON}/root{KEY}")
simple("directory of the daemon", os.listdir, f"/proc/{DAEMON}/cwd/")
simple("files that the daemon has open", lambda: os.readlink(f"/proc/{DAEMON}/fd/3"))
simple("files that the supervisor has open", lambda: os.readlink(f"/proc/{PARENT}/fd/1"))
simple("memory of the daemon", os.open, f"/proc/{DAEMON}/mem", os.O_RDWR)
simple("memory map of the daemon", read, f"/proc/{DAEMON}/maps")
simple("signal to the supervisor", os.kill, PARENT, signal.SIGTERM)
simple("signal to the daemon", os.kill, DAEMON, 0)
simple("trace the supervisor", lambda: call(101, 16, PARENT, 0, 0))  # PTRACE_ATTACH
simple("trace the daemon", lambda: call(101, 0x4206, DAEMON, 0, 0))  # PTRACE_SEIZE
simple("io_uring", lambda: call(425, 8, ctypes.create_string_buffer(256)))
simple("bpf", lambda: call(321, 5, ctypes.create_string_buffer(128), 128))
simple("kernel keys", lambda: call(250, 0, -3, 1))
simple("raw packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
simple("raw sockets", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6))
simple("change root", os.chroot, ".")
simple("mount", lambda: mounted(HOME, "."))
simple("enter the daemon's namespaces", lambda: call(308, os.open(f"/proc/{DAEMON}/ns/mnt", os.O_RDONLY), 0))
simple(
    "another database in its process",
    lambda: sqlite3.connect(f"file:{OTHER}?mode=ro", uri=True).execute("select count(*) from kv").fetchall(),
)
simple("ask a socket pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
simple("take a port", lambda: socket.create_server(("127.0.0.1", int(TARGET["port"]))))


@attack
def memory_of_the_supervisor() -> object:
    local = ctypes.create_string_buffer(64)
    ours = struct.pack("PN", ctypes.addressof(local), 64)
    with open(f"/proc/{PARENT}/stat") as stat:
        start = int(stat.read().rpartition(") ")[2].split()[25])  # startstack
    return call(310, PARENT, ours, 1, struct.pack("PN", start, 64), 1, 0)


@attack
def descriptors_of_the_daemon() -> object:
    return call(438, os.pidfd_open(DAEMON), 3, 0)


@attack
def inherited_descriptors() -> object:
    """Are there any but the three, and this one that looks?"""
    found = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
    if len(found) <= 1:
        raise OSError("none")
    return [os.readlink(f"/proc/self/fd/{name}") for name in found]


@attack
def environment_of_provisioner() -> object:
    leaked = [
        name for name in os.environ if name in ("PROVISIONER_HOME", "XDG_DATA_HOME", "DAEMON_SECRET", "SSH_AUTH_SOCK")
    ]
    if not leaked:
        raise OSError("none")
    return leaked


@attack
def attach_another_database() -> object:
    with sqlite3.connect(MINE) as connection:
        connection.execute("attach ? as other", (OTHER,))
        return connection.execute("select count(*) from other.kv").fetchall()


@attack
def attach_the_registry() -> object:
    with sqlite3.connect(MINE) as connection:
        connection.execute("attach ? as other", (REGISTRY,))
        return connection.execute("select value from other.variable").fetchall()


@attack
def the_daemons_socket() -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(f"{HOME}/daemon.sock")
        return client.send(b"x")


@attack
def an_abstract_socket() -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(f"\0{TARGET['abstract']}")
        return "connected"


@attack
def a_user_namespace() -> object:
    """With a root of its own it would mount what it likes."""
    program = f"mount --bind {HOME} {os.getcwd()} && cat {os.getcwd()}/keys/connect"
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", program], capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode())
    return done.stdout


@attack
def undo_the_mounts() -> object:
    """What hides the home is a mount, after all."""
    if LIBC.umount2(HOME.encode(), 2) and LIBC.umount2(HOME.encode(), 0):
        raise OSError(ctypes.get_errno(), "umount")
    return os.listdir(HOME)


@attack
def a_descriptor_of_a_way_up() -> object:
    fd = os.open("..", os.O_PATH)
    return os.open("../../registry.db", os.O_RDONLY, dir_fd=fd)


@attack
def a_handle() -> object:
    handle = struct.pack("Ii", 128, 0) + b"\0" * 128
    buffer, mount = ctypes.create_string_buffer(handle), ctypes.c_int()
    where = KEY if os.path.exists(KEY) else "."
    if LIBC.name_to_handle_at(-100, where.encode(), buffer, ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return call(304, os.open("/usr", os.O_RDONLY), buffer, 0)


@attack
def another_account() -> object:
    os.setuid(65534)
    return "became nobody"


@attack
def programs_of_root() -> object:
    """Does a program with the set-user-id bit gain anything?"""
    with open("/proc/self/status") as status:
        lines = {name: value.strip() for name, _, value in (line.partition(":") for line in status)}
    if lines["NoNewPrivs"] == "1" and int(lines["CapEff"], 16) & ~0b11011 == 0:
        raise OSError("nothing is gained")
    return lines["CapEff"]


@attack
def the_command_crontab() -> object:
    if not shutil.which("crontab"):
        raise OSError("there is none")
    subprocess.run(["crontab", "-"], input=b"* * * * * true\n", check=True, capture_output=True)
    return "installed"


@attack
def a_service_of_the_machine() -> object:
    for path in ("/run/docker.sock", "/run/systemd/private", "/run/dbus/system_bus_socket", TARGET["socket"]):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(path)
    return "connected"


@attack
def a_port_of_the_kernels_choice() -> object:
    with socket.socket() as server:
        server.listen()
        return server.getsockname()


@attack
def the_disk_by_a_name_of_its_own() -> object:
    os.mknod("disk", 0o600 | 0o060000, os.stat(TARGET["disk"]).st_rdev)
    return read("disk")


for name, function in ATTACKS.items():
    try:
        got = function()
    except subprocess.CalledProcessError:
        print(name, "refused")
    except (OSError, sqlite3.Error) as error:
        print(name, "refused", f"({error})".replace("\n", " ")[:100], flush=True)
    except Exception as error:
        print(name, "BROKEN", repr(error), flush=True)
    else:
        print(name, "GOT", got, flush=True)
