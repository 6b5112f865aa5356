"""How the machine itself shows in what libraries and installers say: disk, memory, rights, scanners, paths.

Systems speak the user's language, so that numbers count before words. The same number means one thing on
Windows and another elsewhere: Python marks Windows' as `WinError`, uv does not.
"""

from __future__ import annotations

from env_manager.diagnosing.signature import Signature

# Between a folder's name and a complaint lie paths in quotes and causes on lines of their own.
_SYNCED = r"(OneDrive|Dropbox|iCloud|Mobile Documents|Google ?Drive|CloudStorage|Nextcloud|ownCloud|pCloud|Box Sync)"
_REFUSED = (
    r"(os error (1|5|18|32|95)\b|WinError (1|5|32)\b|Errno (1|18|95)\b|denied|not permitted|hard ?link|cross-device)"
)

IN_SYSTEM = (
    Signature(
        "cloud-synced-folder",
        r"(os error|WinError) (35[89]|36[0-9]|37[0-9]|38[0-9]|39[0-9]|40[0-4]|448)\b|cloud (operation|file provider|file|sync)"
        r"|" + _SYNCED + r"[\s\S]{0,400}" + _REFUSED + r"|" + _REFUSED + r"[\s\S]{0,200}" + _SYNCED,
        "The folder is kept by a cloud service, which does not let files be linked or locked.",
        "Choose a folder outside of the synced ones in FETTLE_HOME.",
    ),
    Signature(
        "path-too-long",
        r"os error (206|36|63|111)\b[^\n]*too long|(os error|WinError) 206\b|Errno (36|63)\b|file ?name too long"
        r"|(path|name|extension)[^\n]{0,40} too long|exceeds? [^\n]*\b260\b|PathTooLong|maximum path length|MAX_PATH"
        # Without long paths Windows says of a path beyond its limit that it is not there.
        r"|[a-z]:\\[^\n\"'<>|]{240,}[\s\S]{0,200}((os error|WinError) (2|3|123)\b|Errno 2\b)"
        r"|((os error|WinError) (2|3|123)\b|Errno 2\b)[\s\S]{0,200}[a-z]:\\[^\n\"'<>|]{240,}",
        "A path became longer than this system allows.",
        "Choose a folder with a short path in FETTLE_HOME; on Windows allow long paths.",
    ),
    Signature(
        "blocked-by-antivirus",
        r"(os error|WinError) (225|226)\b|contains a virus|potentially unwanted software|quarantined",
        "A virus scanner took a file away.",
        "Exclude Fettle's folder from the scanner, then install again.",
        "install",
    ),
    Signature(
        "libraries-not-executable",
        r"(os error|WinError) (1260|4551|4556|786)\b|blocked by (group|your|the) [^\n]{0,40}policy|Application Control policy"
        r"|code signature[^\n]{0,400}not valid|disallowed by system policy|Library Validation"
        r"|failed to map segment from shared object(?![^\n]*(allocate|memory))|cannot enable executable stack"
        r"|cannot apply additional memory protection|cannot change memory protections|noexec",
        "The system does not let libraries in this folder run: it is mounted noexec, or a policy forbids it.",
        "Choose a folder on another disk in FETTLE_HOME, then install there; or ask who manages this machine.",
    ),
    Signature(
        "file-in-use",
        r"(?<!broken pipe \()(os error|WinError) (32|33|303)\b|used by another (process|program)|sharing violation"
        r"|text file busy|(os error|Errno) (26|16)\b|device or resource busy|user-mapped section open|WinError 1224\b"
        # A scanner that reads a file just unpacked keeps Windows from renaming it.
        r"|(renam|persist|remov|replac|delet)[^\n]{0,60} [^\n]*[a-z]:\\[^\n]*(\n[^\n]*)?(os error|WinError) 5\b",
        "Another program, often a virus scanner, held a file that was being written.",
        "Exclude Fettle's folder from the scanner, or wait a moment, then install again.",
        "install",
    ),
    Signature(
        "disk-full",
        r"No space left|(os error|Errno) (28|122)\b|WinError (39|112)\b|os error 112\b(?<!host is down \(os error 112)|disk quota|quota exceeded"
        r"|not enough (free )?(disk )?space|disk (is )?full|insufficient (disk )?space|\bENOSPC\b|\bEDQUOT\b",
        "The disk is full.",
        "Free some space or move Fettle's folder to a larger disk, then try again.",
        "install",
    ),
    Signature(
        "disk-error",
        r"Input/output error|Errno 5\b|\bEIO\b|\(SIGBUS\)|WinError 23\b|(os error|WinError) (483|1117|1392|1393)\b|cyclic redundancy"
        r"|structure needs cleaning|(os error|Errno) (117|116)\b|stale (nfs )?file handle|bad message \(os error 74\)"
        r"|corrupted and unreadable|I/O device error",
        "The disk could not read or write a file.",
        "Check the disk, then repair the environment.",
        "repair",
    ),
    Signature(
        "out-of-memory",
        r"\bMemoryError\b|allocate memory(?! in static TLS)|Errno 12\b|os error 12\b|\(SIGKILL\)|out of memory|std::bad_alloc"
        r"|not enough memory|memory allocation of \d+ bytes failed|WinError (8|14)\b|(os error|WinError) (1450|1455)\b|not enough (memory|quota)|paging file|oom.?kill"
        r"|insufficient (system )?(memory|resources)",
        "The machine ran out of memory.",
        "Close other programs, then try again; on Windows let the system manage the size of the paging file.",
    ),
    Signature(
        "process-limit",
        r"can't start new thread|pthread_create failed|Resource temporarily unavailable|(os error|Errno) 11\b|fork failed",
        "The limit of processes and threads was reached.",
        "Close other programs, or raise the limit (`ulimit -u`).",
    ),
    Signature(
        "too-many-open-files",
        r"Too many open files|(os error|Errno) (23|24)\b|\bE[MN]FILE\b",
        "The limit of open files was reached.",
        "Close other programs, or raise the limit (`ulimit -n`).",
    ),
    Signature(
        "links-not-supported",
        r"symlink[^\n]*(\n[^\n]*)?(not permitted|not supported|os error (1|38|45|95|1314))"
        r"|(hard ?link|reflink|clone)[^\n]*(\n[^\n]*)?(not permitted|not supported|os error (1|38|45|95))"
        r"|(os error|WinError) 1314\b|required privilege is not held|invalid cross-device link|(os error|Errno) 18\b",
        "The disk that holds the folder knows no links, as with exFAT and many network drives.",
        "Choose a folder on a disk of this machine in FETTLE_HOME.",
    ),
    Signature(
        "no-permission",
        r"PermissionError|permission denied|(os error|Errno) (1|13|30)\b|(os error|WinError) (5|19)\b|access is denied"
        r"|operation not permitted|read-only file ?system|\bE(ACCES|PERM|ROFS)\b|write.protected",
        "A file may not be read or written by this user.",
        "Give your user the rights to Fettle's folder, or choose another one in FETTLE_HOME.",
    ),
)  # fmt: skip
