"""File systems that lose power: a journalling one on a loop device, stopped by the kernel without
writing its journal or what it had in memory (EXT4_IOC_SHUTDOWN, the same of xfs), then mounted again.

`alone()` takes the program into mount and process namespaces of its own: mounts, loop devices, network
namespaces and processes all end with it, however it ends.
"""
import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

from real import Failed

# linux/sched.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
PR_SET_PDEATHSIG = 1
# linux/loop.h, linux/ext4.h (xfs has the same number)
LOOP_CTL_GET_FREE = 0x4C82
LOOP_SET_FD, LOOP_SET_STATUS64 = 0x4C00, 0x4C04
LO_FLAGS_AUTOCLEAR = 4  # the device is free again when nobody has it open
SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2
# Blocks of 4 KiB, as disks have: SQLite reserves the pages of a -shm by one byte in each, and smaller
# blocks leave holes in them, for which a full disk is a SIGBUS.
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=1,nodiscard"], "xfs": ["mkfs.xfs", "-q", "-f"]}


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(argv), done.stderr.strip()))


def look_after(child):
    """Ends as the child does; what ends us ends it in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


def alone():
    """Goes on in mount and process namespaces of its own, as their first process. None, or why not."""
    if os.geteuid() != 0:
        return "needs root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID):
        return "no namespaces of its own here (%s)" % os.strerror(ctypes.get_errno())
    child = os.fork()
    if child:
        look_after(child)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "proc", "proc", "/proc")
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run/netns")  # names of namespaces that nobody else sees
    except Failed as why:
        return "no mounts of its own here (%s)" % why
    return None


def loop_device(image):
    """An open loop device on an image, and its path."""
    control = os.open("/dev/loop-control", os.O_RDWR)
    backing = os.open(image, os.O_RDWR)
    try:
        for _ in range(64):  # another program may take the free one first
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            path = "/dev/loop%d" % number
            if not os.path.exists(path):  # a /dev that nobody tends
                os.mknod(path, 0o600 | 0o060000, os.makedev(7, number))
            device = os.open(path, os.O_RDWR)
            try:
                fcntl.ioctl(device, LOOP_SET_FD, backing)
            except OSError:
                os.close(device)
                continue
            info = struct.pack("=QQQQQ3I I 64s64s32sQQ", 0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR,
                               image.encode()[-60:], b"", b"", 0, 0)
            fcntl.ioctl(device, LOOP_SET_STATUS64, info)
            return device, path
        raise Failed("no free loop device")
    finally:
        os.close(control)
        os.close(backing)


class Disk:
    """A file system of its own on a loop device."""

    def __init__(self, image, point, kind="ext4", megabytes=256):
        self.point, self.kind = point, kind
        os.mkdir(point)
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        run(*MAKE[kind], image)
        self.device, self.path = loop_device(image)
        self.mounted = False
        self.mount()

    def mount(self):
        run("mount", "-t", self.kind, self.path, self.point)
        self.mounted = True

    def cut(self):
        """From now on every read and write fails, and what was not synced is gone."""
        point = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(point, SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))
        finally:
            os.close(point)

    def unmount(self):
        run("umount", self.point)
        self.mounted = False

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.point], capture_output=True, check=False)
        os.close(self.device)


def available(kind="ext4"):
    """None, or why no disk can be made and cut here. Call it when alone."""
    if not shutil.which(MAKE[kind][0]):
        return "needs %s" % MAKE[kind][0]
    folder = tempfile.mkdtemp(prefix="p2pnode-disk-")  # the process number is 1 in here
    disk = None
    try:
        run("mount", "-t", "tmpfs", "none", folder)
        disk = Disk(os.path.join(folder, "image"), os.path.join(folder, "m"), kind, 320 if kind == "xfs" else 16)
        disk.cut()
        return None
    except (Failed, OSError) as why:
        return "no file system that can be stopped here (%s)" % why
    finally:
        if disk:
            disk.close()
        subprocess.run(["umount", "-l", folder], capture_output=True, check=False)
        os.rmdir(folder)
