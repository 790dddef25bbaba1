/*
 * A library that is preloaded (LD_PRELOAD) between SQLite and the operating system.
 * It logs the operations of a program on the files whose path begins with
 * SHIM_PATH, in order, and lets operations fail on request. `tests/src/power/disk.rs`
 * reads the log and derives the files that a power cut may leave.
 *
 *   SHIM_PATH    the absolute path of the database
 *   SHIM_LOG     the path of the log
 *   SHIM_FAULTS  a file with one line, "<operation> <error> <from> <to>": the
 *                operations "read", "write", "sync" or "open" with a number from
 *                <from> up to but not including <to> fail with the error number.
 *                With the error 0 a sync does nothing and reports success.
 *
 * A write to SHIM_PATH.receipts adds a mark to the log and has no other effect, so
 * that the program can record its replies in the same order. The shared memory file
 * and the lock file are not logged: they have no meaning after a power cut.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { NONE, FOLDER, MARKS, FIRST_FILE, FILES = 32, FDS = 4096 };
enum { READ, WRITE, SYNC, OPEN, OPERATIONS };

struct entry {
    uint32_t kind; /* one letter, see the calls of `record` */
    uint32_t file; /* the number of a name */
    uint64_t at;   /* an offset, a length, or the number of a sync */
    uint64_t size; /* of the bytes that follow */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *path;
static int log_fd = -1, faults_fd = -1;
static char *names[FILES];
static unsigned char file_of[FDS];
/* The error of a sync that failed through another descriptor of the same file. As on
 * Linux, each descriptor reports it once. */
static int owed[FDS];
static uint64_t counts[OPERATIONS], syncs;

static void give_up(const char *why) {
    fprintf(stderr, "the shim can't follow: %s\n", why);
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("SHIM_LOG"), *faults = getenv("SHIM_FAULTS");
    path = getenv("SHIM_PATH");
    if (path == NULL || log == NULL) {
        path = NULL;
        return;
    }
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (log_fd < 0) give_up("the log does not open");
    if (faults != NULL)
        faults_fd = syscall(SYS_openat, AT_FDCWD, faults, O_RDONLY | O_CLOEXEC);
}

static void put(const void *bytes, size_t size) {
    const char *from = bytes;
    while (size > 0) {
        ssize_t done = syscall(SYS_write, log_fd, from, size);
        if (done <= 0) give_up("the log is full");
        from += done;
        size -= done;
    }
}

/* All of these are called under the lock, so that the log has one order. */

static void record(char kind, uint32_t file, uint64_t at, const void *bytes, uint64_t size) {
    struct entry entry = { kind, file, at, size };
    put(&entry, sizeof entry);
    put(bytes, size);
}

/* The number of the file of that name, or NONE if it is not followed. */
static int number_of(const char *name) {
    if (path == NULL) return NONE;
    size_t length = strlen(path), folder = strrchr(path, '/') - path;
    if (strlen(name) == folder && strncmp(name, path, folder) == 0) return FOLDER;
    if (strncmp(name, path, length) != 0) return NONE;
    const char *suffix = name + length;
    if (strcmp(suffix, "-shm") == 0 || strcmp(suffix, ".lock") == 0) return NONE;
    if (strcmp(suffix, ".receipts") == 0) return MARKS;
    for (int file = FIRST_FILE; file < FILES; file++) {
        if (names[file] == NULL) {
            names[file] = strdup(suffix);
            record('n', file, 0, suffix, strlen(suffix));
        }
        if (strcmp(names[file], suffix) == 0) return file;
    }
    give_up("too many files");
    return NONE;
}

static int file(int fd) {
    return fd >= 0 && fd < FDS ? file_of[fd] : NONE;
}

/* Whether this operation is to go wrong; `errno` says how. */
static int fault(int operation, int on) {
    char line[64], name[16];
    int error;
    unsigned long from, to;
    uint64_t number = counts[operation]++;
    if (faults_fd < 0) return 0;
    ssize_t size = syscall(SYS_pread64, faults_fd, line, sizeof line - 1, (off_t)0);
    if (size <= 0) return 0;
    line[size] = 0;
    if (sscanf(line, "%15s %d %lu %lu", name, &error, &from, &to) != 4) return 0;
    static const char *operations[] = { "read", "write", "sync", "open" };
    if (strcmp(name, operations[operation]) != 0 || number < from || number >= to) return 0;
    record('f', on, operation, NULL, 0);
    errno = error;
    return 1;
}

static int open_at(int folder, const char *name, int flags, mode_t mode) {
    if (path == NULL || folder != AT_FDCWD) return syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&lock);
    int number = number_of(name), fd = -1;
    int writes = number >= FIRST_FILE && (flags & O_ACCMODE) != O_RDONLY;
    if (!writes || !fault(OPEN, number)) {
        int exists = syscall(SYS_faccessat, AT_FDCWD, name, F_OK) == 0;
        fd = syscall(SYS_openat, folder, name, flags, mode);
        int error = errno;
        if (fd >= FDS) give_up("too many files are open");
        if (fd >= 0) {
            file_of[fd] = number;
            owed[fd] = 0;
            if (number >= FIRST_FILE && !exists) record('c', number, 0, NULL, 0);
            if (number >= FIRST_FILE && exists && (flags & O_TRUNC)) record('t', number, 0, NULL, 0);
        }
        errno = error;
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name, parameters, folder)                      \
    int name parameters {                                    \
        va_list more;                                        \
        va_start(more, flags);                               \
        mode_t mode = mode_of(flags, more);                  \
        va_end(more);                                        \
        return open_at(folder, file_name, flags, mode);      \
    }
OPENS(open, (const char *file_name, int flags, ...), AT_FDCWD)
OPENS(open64, (const char *file_name, int flags, ...), AT_FDCWD)
OPENS(openat, (int folder, const char *file_name, int flags, ...), folder)
OPENS(openat64, (int folder, const char *file_name, int flags, ...), folder)

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (file(fd)) file_of[fd] = NONE;
    pthread_mutex_unlock(&lock);
    return syscall(SYS_close, fd);
}

/* A disk that is full takes half of what it is asked for, and then nothing. */
static ssize_t write_at(int fd, const void *bytes, size_t size, off_t at, int seeks) {
    pthread_mutex_lock(&lock);
    int number = file(fd);
    ssize_t done = size;
    if (number == MARKS) {
        record('m', number, 0, bytes, size);
    } else {
        int failed = fault(WRITE, number), error = errno;
        static int took_half;
        took_half = failed && error == ENOSPC && !took_half;
        if (failed) size = took_half ? size / 2 : 0;
        if (failed && size == 0) {
            done = -1;
            errno = error;
        } else {
            if (seeks) at = syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR);
            done = seeks ? syscall(SYS_write, fd, bytes, size)
                         : syscall(SYS_pwrite64, fd, bytes, size, at);
            if (done > 0) record('w', number, at, bytes, done);
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (file(fd) < MARKS) return syscall(SYS_write, fd, bytes, size);
    return write_at(fd, bytes, size, 0, 1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    if (file(fd) < MARKS) return syscall(SYS_pwrite64, fd, bytes, size, at);
    return write_at(fd, bytes, size, at, 0);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    return pwrite(fd, bytes, size, at);
}

static int may_read(int fd) {
    if (file(fd) < FIRST_FILE) return 1;
    pthread_mutex_lock(&lock);
    int failed = fault(READ, file(fd));
    pthread_mutex_unlock(&lock);
    return !failed;
}

ssize_t read(int fd, void *bytes, size_t size) {
    return may_read(fd) ? syscall(SYS_read, fd, bytes, size) : -1;
}

ssize_t pread(int fd, void *bytes, size_t size, off_t at) {
    return may_read(fd) ? syscall(SYS_pread64, fd, bytes, size, at) : -1;
}

ssize_t pread64(int fd, void *bytes, size_t size, off64_t at) {
    return pread(fd, bytes, size, at);
}

int ftruncate(int fd, off_t size) {
    if (file(fd) < FIRST_FILE) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_ftruncate, fd, size);
    if (result == 0) record('t', file(fd), size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate64(int fd, off64_t size) {
    return ftruncate(fd, size);
}

/* A sync covers what was written before it began, once it has ended. The lock is
 * not held meanwhile: others write on, as they do on a real disk. */
static int sync_file(int fd, long call) {
    int number = file(fd);
    if (number != FOLDER && number < FIRST_FILE) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t ticket = syncs++;
    int failed = number >= FIRST_FILE && fault(SYNC, number), error = errno;
    int loses = failed && error != 0;
    if (loses) {
        for (int other = 0; other < FDS; other++) {
            if (file_of[other] == number) owed[other] = error;
        }
    } else if (!failed && owed[fd] != 0) {
        failed = 1;
        error = owed[fd];
    }
    owed[fd] = 0;
    if (!failed) record('s', number, ticket, NULL, 0);
    /* What such a sync was to make durable may never become so. */
    if (loses) record('d', number, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (failed) {
        errno = error;
        return error == 0 ? 0 : -1;
    }
    int result = syscall(call, fd);
    error = errno;
    pthread_mutex_lock(&lock);
    if (result == 0 && owed[fd] != 0) {
        result = -1;
        error = owed[fd];
        owed[fd] = 0;
    }
    if (result == 0) record('e', number, ticket, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd) {
    return sync_file(fd, SYS_fsync);
}

int fdatasync(int fd) {
    return sync_file(fd, SYS_fdatasync);
}

int unlink(const char *name) {
    pthread_mutex_lock(&lock);
    int number = number_of(name);
    int result = syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    if (result == 0 && number >= FIRST_FILE) record('u', number, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Ways to change a file that the log does not know. */

void *mmap(void *where, size_t size, int protection, int flags, int fd, off_t at) {
    if (file(fd) >= FIRST_FILE && (protection & PROT_WRITE) && (flags & MAP_TYPE) != MAP_PRIVATE)
        give_up("a writable mapping");
    return (void *)syscall(SYS_mmap, where, size, protection, flags, fd, at);
}

void *mmap64(void *where, size_t size, int protection, int flags, int fd, off64_t at) {
    return mmap(where, size, protection, flags, fd, at);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
    if (file(fd) >= FIRST_FILE) give_up("fallocate");
    return syscall(SYS_fallocate, fd, mode, at, size);
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    if (number_of(from) >= FIRST_FILE || number_of(to) >= FIRST_FILE) give_up("rename");
    pthread_mutex_unlock(&lock);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
