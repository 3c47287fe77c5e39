"""Makes fsync cost a millisecond, as on a disk without a battery behind its cache.

The disks of test machines answer an fsync in 0.1 ms, or lie.  A library loaded before the program
(``LD_PRELOAD``) calls the real fsync, fdatasync or sync_file_range and then sleeps for what is left
of the millisecond, so whoever waits for the disk waits that long and no processor is kept busy.
Writes to files opened with O_SYNC or O_DSYNC would go around it; neither server opens its log so.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

MILLISECONDS = 1.0

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void later(struct timespec *end) {
    const char *text = getenv("SLOW_FSYNC_MICROSECONDS");
    clock_gettime(CLOCK_MONOTONIC, end);
    end->tv_nsec += (text ? atol(text) : 0) * 1000L;
    while (end->tv_nsec >= 1000000000L) { end->tv_nsec -= 1000000000L; end->tv_sec++; }
    prctl(PR_SET_TIMERSLACK, 1000UL);  /* nanoseconds; 50,000 by default */
}

static void sleep_until(struct timespec *end) {
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, end, NULL) != 0) { }
}

#define SLOW(name, declared, given)                                    \
    int name declared {                                                \
        static int (*real) declared;                                   \
        struct timespec end;                                           \
        if (!real) real = (int (*) declared) dlsym(RTLD_NEXT, #name);  \
        later(&end);                                                   \
        int result = real given;                                       \
        sleep_until(&end);                                             \
        return result;                                                 \
    }

SLOW(fsync, (int fd), (fd))
SLOW(fdatasync, (int fd), (fd))
"""


def build() -> Path:
    """Compile the library; the caller removes its directory."""
    directory = Path(tempfile.mkdtemp(prefix="coherent_cache_slow_disk_"))
    directory.chmod(0o755)  # the servers' accounts load it
    (directory / "slow_fsync.c").write_text(_SOURCE)
    library = directory / "slow_fsync.so"
    source = str(library.with_suffix(".c"))
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), source, "-ldl"]
    subprocess.run(command, check=True)
    return library


def environment(library: Path, milliseconds: float = MILLISECONDS) -> dict[str, str]:
    """What a server, or a process that uses SQLite, is started with."""
    return {
        "LD_PRELOAD": str(library),
        "SLOW_FSYNC_MICROSECONDS": str(round(milliseconds * 1000)),
    }


def fsync_milliseconds(times: int = 200) -> float:
    """What an fsync costs in this process after a page was written anew (as servers do to their
    logs), on the disk of temporary files."""
    fsync = ctypes.CDLL(None).fsync
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x" * 4096)
        fsync(file.fileno())
        start = time.perf_counter()
        for _ in range(times):
            file.seek(0)
            file.write(b"x" * 4096)
            fsync(file.fileno())
        return (time.perf_counter() - start) / times * 1000


if __name__ == "__main__":
    print(f"{fsync_milliseconds():.3f}")
