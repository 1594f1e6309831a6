"""Attempts on the file system: out of the root, onto what is read-only, at what is the host's."""

import ctypes
import mmap
import os
import shutil
import stat
import struct
import tempfile
import threading
import time
import uuid

from .syscalls import call
from .verdicts import attempt, contained, error_of, escaped, every, is_root, refused

SYSTEM_FOLDERS = ("/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/etc/ssl", "/dev", "/var", "/var/task", "/var/runtime",
                  "/var/lang", "/opt")  # fmt: skip
_MS_BIND, _MS_REMOUNT = 4096, 32
_UP = "/".join([".."] * 40)
RACE_S = 0.3


def _make_and_remove(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(path)


def _open(path, flags):
    os.close(os.open(path, flags))


def _present(paths):
    return [path for path in paths if os.path.lexists(path)]


@attempt
def write_to_system_folders(event):
    name = "escape-" + uuid.uuid4().hex
    return every({folder: error_of(_make_and_remove, folder + "/" + name) for folder in _present(SYSTEM_FOLDERS)})


@attempt
def write_where_it_does_not_belong(event):
    """Anywhere at all but in /tmp: every directory down to three levels is tried."""
    name = "escape-" + uuid.uuid4().hex
    writable = []
    for folder, folders, _ in os.walk("/"):
        if folder in ("/proc", "/tmp") or folder.count("/") >= 3:
            folders[:] = []
        if folder != "/tmp" and error_of(_make_and_remove, os.path.join(folder, name)) is None:
            writable.append(folder)
    return escaped(writable) if writable else contained(writable=[])


@attempt
def change_own_code(event):
    """Poison the code that the next environment starts from: the function's own, or a `file` below another `root`."""
    root = event.get("root") or os.environ["LAMBDA_TASK_ROOT"]
    code = event.get("file") or os.path.abspath(__file__)
    state = os.stat(code)
    return every(
        {
            "open": error_of(_open, code, os.O_WRONLY),
            "append": error_of(_open, code, os.O_WRONLY | os.O_APPEND),
            "chmod": error_of(os.chmod, code, stat.S_IMODE(state.st_mode)),
            "utime": error_of(os.utime, code, (state.st_atime, state.st_mtime)),
            "xattr": error_of(os.setxattr, code, "user.escape", b"1"),
            "create": error_of(_make_and_remove, root + "/escape-" + uuid.uuid4().hex),
            "rename": error_of(os.rename, code, code),
            "hard link": error_of(os.link, code, "/tmp/escape-" + uuid.uuid4().hex),
        }
    )


@attempt
def overwrite_the_interpreter(event):
    """As a container once overwrote its runtime through /proc/self/exe: the file is opened, and nothing is written."""
    paths = ["/proc/self/exe", "/proc/1/exe", os.__file__, ctypes.__file__]
    return every({path: error_of(_open, path, os.O_WRONLY) for path in paths})


@attempt
def map_system_files_writable(event):
    descriptor = os.open(os.__file__, os.O_RDONLY)
    mmap.mmap(descriptor, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()
    return escaped(os.__file__)


@attempt
def remount_writable(event):
    if is_root():
        return escaped("root may remount anything")
    paths = _present(("/", "/usr", "/lib", "/var/task", "/proc", "/opt"))
    flags = _MS_REMOUNT | _MS_BIND
    return every({path: error_of(call, "mount", b"none", path.encode(), None, flags, None) for path in paths})


@attempt
def read_hidden_places(event):
    """What only the host has: homes, secrets, the data directory, other functions' code, the kernel's devices."""
    hidden = ["/root", "/home", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/ssl/private", "/boot",
              "/etc/machine-id", "/mnt", "/media", "/srv", "/sys", "/run", "/var/log", "/var/lib", "/var/run",
              "/var/spool", "/var/cache", "/var/tmp", "/dev/shm", "/dev/mqueue", "/dev/mem", "/dev/kmsg", "/dev/tty",
              "/dev/ptmx", "/lost+found", event["data_dir"]]  # fmt: skip
    return every({path: _hidden(path) for path in hidden})


def _hidden(path):
    """Why nothing of the host can be seen at a path; None if something can be."""
    if os.path.isdir(path):
        return error_of(os.listdir, path) or (None if os.listdir(path) else "empty")
    return error_of(os.stat, path)


@attempt
def list_the_root(event):
    return contained(root=sorted(os.listdir("/")), var=sorted(os.listdir("/var")))


@attempt
def list_etc(event):
    with open("/etc/passwd") as file:
        users = [line.split(":")[0] for line in file if line.strip()]
    return contained(etc=sorted(os.listdir("/etc")), users=users)


@attempt
def list_devices(event):
    return contained(dev=sorted(os.listdir("/dev")))


@attempt
def open_devices_for_control(event):
    """Reading and writing is all that the devices that are there allow; none is a terminal."""
    import termios

    if is_root():
        return escaped("root may open every device")
    errors = {}
    for name in sorted(os.listdir("/dev")):
        path = "/dev/" + name
        if not stat.S_ISCHR(os.lstat(path).st_mode):
            continue
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        errors[name] = error_of(_push_input, termios.TIOCSTI, descriptor)
        os.close(descriptor)
    return every(errors)


@attempt
def push_terminal_input(event):
    """Type into the terminal that the daemon was started from; a space, which does nothing there."""
    import termios

    errors = {str(number): error_of(_push_input, termios.TIOCSTI, number) for number in range(3)}
    errors["/dev/tty"] = error_of(_open, "/dev/tty", os.O_RDWR)
    return every(errors)


def _push_input(request, descriptor):
    import fcntl

    fcntl.ioctl(descriptor, request, b" ")


@attempt
def make_device_nodes(event):
    """The host's disk, its memory, and a harmless one; in /tmp, where files can be made."""
    folder = tempfile.mkdtemp()
    path = folder + "/device"

    def make(kind, device):
        os.mknod(path, kind | 0o600, device)
        os.unlink(path)

    errors = {
        "disk": error_of(make, stat.S_IFBLK, event["disk"]),
        "memory": error_of(make, stat.S_IFCHR, os.makedev(1, 1)),
        "null": error_of(make, stat.S_IFCHR, os.makedev(1, 3)),
    }
    os.rmdir(folder)
    return every(errors)


@attempt
def use_devices_and_setuid_in_tmp(event):
    """/tmp is mounted so that neither device nodes nor setuid bits mean anything there."""
    wanted = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV}
    missing = {}
    for path in _present(("/", "/tmp", "/usr", "/var/task", "/opt", "/etc/ssl", "/proc")):
        flags = os.statvfs(path).f_flag
        without = [name for name, flag in wanted.items() if not flags & flag]
        if without:
            missing[path] = without
    return escaped(missing) if missing else contained(missing={})


@attempt
def climb_from_every_descriptor(event):
    """`..` from every directory that is open or can be opened leads to the root and no further."""
    root = os.stat("/")
    found = {}
    starts = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISDIR(os.stat("/proc/self/fd/" + name).st_mode):
                starts["descriptor " + os.readlink("/proc/self/fd/" + name)] = int(name)
        except OSError:
            continue  # the listing's own descriptor
    for path in _present(
        ("/", "/usr", "/tmp", "/proc", "/dev", "/var/task", "/opt", "/proc/self/cwd", "/proc/self/root")
    ):
        starts[path] = os.open(path, os.O_PATH | os.O_DIRECTORY)
    for name, descriptor in starts.items():
        try:
            top = os.open(_UP, os.O_PATH | os.O_DIRECTORY, dir_fd=descriptor)
        except OSError:
            continue
        state = os.fstat(top)
        found[name] = (state.st_dev, state.st_ino) == (root.st_dev, root.st_ino)
        for target in (event["data_dir"], "/etc/shadow"):
            if error_of(lambda: os.stat(_UP + target, dir_fd=descriptor)) is None:  # noqa: B023 - called at once
                found[name + " to " + target] = False
    out = [name for name, is_root_folder in found.items() if not is_root_folder]
    return escaped(out) if out else contained(tried=len(found))


@attempt
def change_directory_out(event):
    """fchdir into every open directory, then `..` in steps."""
    data_dir = event["data_dir"].lstrip("/")
    for name in os.listdir("/proc/self/fd"):
        if error_of(os.fchdir, int(name)) is None:
            for _ in range(40):
                os.chdir("..")
                if os.path.exists(data_dir):
                    return escaped(os.getcwd())
    os.chdir("/proc/self/cwd")
    for _ in range(40):
        os.chdir("..")
    root, here = os.stat("/"), os.stat(".")
    return contained(at_root=(root.st_dev, root.st_ino) == (here.st_dev, here.st_ino))


@attempt
def reach_out_through_proc(event):
    """The root, working directory and descriptors of every process that can be seen."""
    root = os.stat("/")
    data_dir = event["data_dir"]
    out, looked = [], 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for link in ("root", "cwd"):
            path = f"/proc/{pid}/{link}"
            looked += 1
            if error_of(os.stat, path + "/" + _UP + data_dir) is None or error_of(os.stat, path + data_dir) is None:
                out.append(path)
            try:
                state = os.stat(path)
            except OSError:
                continue
            if link == "root" and (state.st_dev, state.st_ino) != (root.st_dev, root.st_ino):
                out.append(path)
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        out += [
            f"/proc/{pid}/fd/{number}"
            for number in numbers
            if error_of(os.stat, f"/proc/{pid}/fd/{number}/{_UP}{data_dir}") is None
        ]
    return escaped(out) if out else contained(looked=looked)


@attempt
def learn_host_paths(event):
    """Where the daemon keeps its data, from what the kernel tells of mounts and processes.

    Of a mount's source it tells the path (mountinfo). What counts is that nothing is there that could be opened.
    """
    told = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for name in ("mountinfo", "mounts", "mountstats", "cmdline", "environ", "maps", "cgroup"):
            path = f"/proc/{pid}/{name}"
            try:
                with open(path, "rb") as file:
                    lines = [line for line in file if event["data_dir"].encode() in line]
            except OSError:
                continue
            told += [f"{path}: {line.decode().strip()}" for line in lines]
    own = (" /var/task ro,", " /opt ro,")
    source = [line for line in told if "/mountinfo: " in line and any(place in line for place in own)]
    if len(source) < len(told) or os.path.exists(event["data_dir"]):
        return escaped(told)
    return contained(of_the_mount_alone=len(source))


@attempt
def break_out_of_a_chroot(event):
    """The classic way: keep a descriptor outside, chroot below, and climb from the descriptor."""
    folder = tempfile.mkdtemp()
    outside = os.open("/", os.O_RDONLY)
    try:
        os.chroot(folder)
        os.fchdir(outside)
        for _ in range(40):
            os.chdir("..")
        return escaped(os.path.exists("." + event["data_dir"]))
    finally:
        os.close(outside)
        os.rmdir(folder) if os.path.isdir(folder) else None


@attempt
def open_the_host_by_handle(event):
    """The root of a file system by a file handle with a guessed inode, from a descriptor that is a bind mount of it."""
    handle = ctypes.create_string_buffer(struct.pack("IiII", 8, 1, 2, 0))  # ext4: inode 2 is the root
    errors = {}
    for path in _present(("/usr", "/var/task", "/tmp", "/")):
        descriptor = os.open(path, os.O_RDONLY)
        errors[path] = error_of(call, "open_by_handle_at", descriptor, handle, os.O_RDONLY)
        if errors[path] == "ESTALE":
            errors[path] = None  # it was let in, and only the guess was wrong
    return every(errors)


@attempt
def ask_for_a_file_handle(event):
    handle, mount = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128)), ctypes.c_int()
    call("name_to_handle_at", -100, b"/usr", handle, ctypes.byref(mount), 0)
    return escaped(handle.raw[8:16].hex())


@attempt
def race_symlinks_in_tmp(event):
    """A link and a directory change places while files are opened and made through them; links lead to the host."""
    folder = tempfile.mkdtemp()
    place, spare = folder + "/place", folder + "/spare"
    os.mkdir(place)
    targets = [os.path.dirname(event["data_dir"]), "/proc/1/root/root", "/proc/1/cwd", "/root", "/etc/ssl/private"]
    done = threading.Event()

    def swap():
        number = 0
        while not done.is_set():
            os.rename(place, spare)
            os.symlink(targets[number % len(targets)], place)
            os.unlink(place)
            os.rename(spare, place)
            number += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    outcomes = {}
    name = "escape-" + uuid.uuid4().hex
    base = os.path.basename(event["data_dir"])
    until = time.monotonic() + RACE_S
    while time.monotonic() < until:
        for outcome in (error_of(_make_and_remove, place + "/" + name), _sees(place + "/" + base)):
            outcomes[str(outcome)] = outcomes.get(str(outcome), 0) + 1
    done.set()
    swapping.join()
    shutil.rmtree(folder)
    return escaped("the data directory") if "seen" in outcomes else contained(outcomes=sorted(outcomes))


def _sees(path):
    return "seen" if os.path.exists(path) else "ENOENT"


@attempt
def leave_a_file_in_tmp(event):
    """A file that the next invocation of this environment finds, and nobody else."""
    with open("/tmp/" + event["name"], "x") as file:
        file.write("left")
    return contained(tmp=os.listdir("/tmp"))


@attempt
def find_a_file_in_tmp(event):
    path = "/tmp/" + event["name"]
    if not os.path.exists(path):
        return refused("ENOENT")
    os.unlink(path)
    return escaped(path)
