/* Small files read whole, many of them for one release of the GIL.
 *
 * Between two calls made from Python the GIL must be won back from the threads that compress, which takes
 * longer than the calls themselves. small_files.py holds the same function in Python: it is the specification, and
 * serves where this file could not be compiled.
 */

#include "_stat_result.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

#define STAT_BLOCK 512              /* the unit of st_blocks, whatever the file system's blocks are */
#define FILES_AT_ONCE 64            /* files held open at a time */

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

static uint64_t
nanoseconds(struct timespec time)
{
    return (uint64_t)time.tv_sec * NS_PER_SECOND + (uint64_t)time.tv_nsec;
}

static int
is_still(const struct stat *found, const identity *expected)
{
    return (uint64_t)found->st_ino == expected->ino && (uint64_t)found->st_dev == expected->dev
           && found->st_mode == (mode_t)expected->mode && found->st_uid == (uid_t)expected->uid
           && found->st_gid == (gid_t)expected->gid && (uint64_t)found->st_size == expected->size
           && nanoseconds(MODIFIED(found)) == expected->mtime && nanoseconds(CHANGED(found)) == expected->ctime;
}

/* Whether attributes must be read, or cannot be. */
static int
has_attributes(int fd)
{
#ifdef __linux__
    ssize_t length = flistxattr(fd, NULL, 0);
    return length > 0 || (length < 0 && errno != ENOTSUP && errno != EOPNOTSUPP && errno != ENOSYS);
#else
    (void)fd;
    return 0;
#endif
}

static int
open_file(int dir_fd, const char *name)
{
#ifdef O_NOATIME
    /* For the owner and root only. */
    int fd = openat(dir_fd, name, OPEN_FLAGS | O_NOATIME);
    if (fd >= 0 || errno != EPERM)
        return fd;
#endif
    return openat(dir_fd, name, OPEN_FLAGS);
}

/* One file of a batch. `name` and `data` belong to objects that the caller holds. */
typedef struct {
    identity expected;
    const char *name;
    char *data;                     /* NULL: not for this function */
    int fd;
} small_file;

/* Opens what `expected` describes; -1 if anything about it is out of the ordinary. An interrupted call counts as
 * such, here and below: the caller then takes the path on which Python's own signal handlers run. */
static int
open_expected(int dir_fd, const char *name, const identity *expected)
{
    struct stat found;
    int fd = open_file(dir_fd, name);
    if (fd < 0)
        return -1;
    if (fstat(fd, &found) == 0 && is_still(&found, expected)
        && (uint64_t)found.st_blocks >= expected->size / STAT_BLOCK + (expected->size % STAT_BLOCK != 0)
        && !has_attributes(fd))
        return fd;
    /* Never again on EINTR: the descriptor is gone, and its number may be another thread's. */
    close(fd);
    return -1;
}

/* Reads a batch without the GIL: first all are opened and asked for, so that a disk sees many requests at once, then
 * read in turn. The `fd` of a file that was not read to the end, or did not hold still, is -1 afterwards. */
static void
read_batch(int dir_fd, small_file *files, Py_ssize_t count)
{
    struct stat found;
    for (Py_ssize_t i = 0; i < count; i++) {
        files[i].fd = files[i].data == NULL ? -1 : open_expected(dir_fd, files[i].name, &files[i].expected);
#ifdef POSIX_FADV_WILLNEED
        if (files[i].fd >= 0 && count > 1)
            posix_fadvise(files[i].fd, 0, 0, POSIX_FADV_WILLNEED);
#endif
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const identity *expected = &files[i].expected;
        if (files[i].fd < 0)
            continue;
        int good = pread(files[i].fd, files[i].data, (size_t)expected->size, 0) == (ssize_t)expected->size
                   && fstat(files[i].fd, &found) == 0 && is_still(&found, expected);
        close(files[i].fd);
        if (!good)
            files[i].fd = -1;
    }
}

/* Appends the bytes of `count` files from `first` on, or None for each that read_batch refused. */
static int
append_files(stat_state *state, int dir_fd, PyObject *items, Py_ssize_t first, Py_ssize_t count, Py_ssize_t limit,
             PyObject *result)
{
    small_file files[FILES_AT_ONCE];
    PyObject *held[FILES_AT_ONCE], *contents[FILES_AT_ONCE];
    Py_ssize_t ready = 0;
    int failed = 0;
    for (; ready < count && !failed; ready++) {
        small_file *file = &files[ready];
        PyObject *item = PyList_GET_ITEM(items, first + ready), *status;
        char *name;
        held[ready] = contents[ready] = NULL;
        file->data = NULL;
        failed = split_item(item, &name, NULL, &status) < 0 || get_identity(state, status, &file->expected) < 0;
        if (failed)
            continue;
        held[ready] = Py_NewRef(item);
        file->name = name;
        if (!S_ISREG((mode_t)file->expected.mode) || limit <= 0 || file->expected.size == 0
            || file->expected.size > (uint64_t)limit)
            continue;
        /* As large as the caller believes the file is, which is_still holds it to: read in place, not copied. */
        contents[ready] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)file->expected.size);
        failed = contents[ready] == NULL;
        if (!failed)
            file->data = PyBytes_AS_STRING(contents[ready]);
    }
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        read_batch(dir_fd, files, count);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; i < ready; i++) {
        if (!failed)
            failed = PyList_Append(result, files[i].fd >= 0 ? contents[i] : Py_None) < 0;
        Py_XDECREF(contents[i]);
        Py_XDECREF(held[i]);
    }
    return failed ? -1 : 0;
}

static PyObject *
read_small_files(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int dir_fd;
    if (wants(count, 3, "read_small_files") < 0 || get_descriptor(args[0], &dir_fd) < 0)
        return NULL;
    PyObject *items = args[1], *result;
    if (!PyList_Check(items)) {
        PyErr_Format(PyExc_TypeError, "expected a list of items, not %.100s", Py_TYPE(items)->tp_name);
        return NULL;
    }
    Py_ssize_t limit = PyLong_AsSsize_t(args[2]);
    if ((limit == -1 && PyErr_Occurred()) || (result = PyList_New(0)) == NULL)
        return NULL;
    /* The list is asked for its length every time: without the GIL it may have become shorter. */
    for (Py_ssize_t first = 0; first < PyList_GET_SIZE(items); first += FILES_AT_ONCE) {
        Py_ssize_t batch = PyList_GET_SIZE(items) - first;
        if (batch > FILES_AT_ONCE)
            batch = FILES_AT_ONCE;
        if (append_files(PyModule_GetState(module), dir_fd, items, first, batch, limit, result) < 0
            || PyErr_CheckSignals() < 0) {
            Py_DECREF(result);
            return NULL;
        }
    }
    return result;
}

static PyMethodDef methods[] = {
    {"read_small_files", (PyCFunction)(void (*)(void))read_small_files, METH_FASTCALL,
     PyDoc_STR("read_small_files(dir_fd, items, limit, /)\n--\n\nsmall_files.py says what.")},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_small_files",
    .m_doc = PyDoc_STR("Small files read whole, many for one release of the GIL."),
    .m_size = sizeof(stat_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__small_files(void)
{
    return PyModuleDef_Init(&module);
}
