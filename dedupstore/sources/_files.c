/* System calls on source files, several of them for one release of the GIL.
 *
 * Between two calls made from Python the GIL must be won back from the threads that compress, which takes
 * longer than the calls themselves. small_files.py and many_names.py hold the same functions in Python: they
 * are the specification, and serve where this file could not be compiled.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structseq.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

#define NS_PER_SECOND 1000000000
#define STAT_BLOCK 512              /* the unit of st_blocks, whatever the file system's blocks are */
#define NAMES_AT_ONCE 128           /* names looked at before signals are asked for; 20 KiB of stack */
#define FILES_AT_ONCE 64            /* files held open at a time */

#define PACKED_NUMBERS 7            /* of an item: mode uid gid size mtime ctime inode */
#define MAX_FIELDS 64               /* of os.stat_result; Linux has 19 */

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

#ifdef __APPLE__
#define ACCESSED(st) ((st)->st_atimespec)
#define MODIFIED(st) ((st)->st_mtimespec)
#define CHANGED(st) ((st)->st_ctimespec)
#else
#define ACCESSED(st) ((st)->st_atim)
#define MODIFIED(st) ((st)->st_mtim)
#define CHANGED(st) ((st)->st_ctim)
#endif

/* Where os.stat_result keeps its fields. The first ten are fixed, the last two being whole seconds; the others
 * differ between platforms and are found by name. */
enum { MODE, INO, DEV, NLINK, UID, GID, SIZE, ATIME_SECONDS, MTIME_SECONDS, CTIME_SECONDS, FIXED_FIELDS };
enum { ATIME, MTIME, CTIME, ATIME_NS, MTIME_NS, CTIME_NS, NEEDED_FIELDS, BLKSIZE = NEEDED_FIELDS, BLOCKS, RDEV, FLAGS,
       NAMED_FIELDS };

static const char *const field_names[NAMED_FIELDS] = {
    "st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns",
    "st_blksize", "st_blocks", "st_rdev", "st_flags",
};

typedef struct {
    PyTypeObject *stat_result;
    Py_ssize_t at[NAMED_FIELDS];    /* -1: this platform has none */
    Py_ssize_t unknown[MAX_FIELDS];
    Py_ssize_t unknown_fields;
} files_state;

/* What the caller knows of a file, as far as it must not have changed. Times modulo 2**64 ns: a file that moves
 * by exactly 584 years while it is read may be mistaken for one that held still. */
typedef struct {
    uint64_t dev, ino, mode, uid, gid, size, mtime, ctime;
} identity;

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

/* Modulo 2**64; 0 and an exception for what is no int. No code of the object's own runs. */
static uint64_t
whole_number(PyObject *status, Py_ssize_t field)
{
    PyObject *number = PyStructSequence_GetItem(status, field);
    if (number == NULL || !PyLong_Check(number)) {
        PyErr_SetString(PyExc_TypeError, "not the os.stat_result of a file");
        return 0;
    }
    return PyLong_AsUnsignedLongLongMask(number);
}

static int
get_identity(files_state *state, PyObject *status, identity *expected)
{
    if (!PyObject_TypeCheck(status, state->stat_result)) {
        PyErr_Format(PyExc_TypeError, "expected an os.stat_result, not %.100s", Py_TYPE(status)->tp_name);
        return -1;
    }
    expected->dev = whole_number(status, DEV);
    expected->ino = whole_number(status, INO);
    expected->mode = whole_number(status, MODE);
    expected->uid = whole_number(status, UID);
    expected->gid = whole_number(status, GID);
    expected->size = whole_number(status, SIZE);
    expected->mtime = whole_number(status, state->at[MTIME_NS]);
    expected->ctime = whole_number(status, state->at[CTIME_NS]);
    return PyErr_Occurred() ? -1 : 0;
}

static int
wants(Py_ssize_t count, Py_ssize_t wanted, const char *function)
{
    if (count == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function, wanted, count);
    return -1;
}

static int
get_descriptor(PyObject *number, int *fd)
{
    long value = PyLong_AsLong(number);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < INT_MIN || value > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "not the number of a descriptor");
        return -1;
    }
    *fd = (int)value;
    return 0;
}

static PyObject *
number_of_id(uint64_t id, uint64_t nobody)
{
    return id == nobody ? PyLong_FromLong(-1) : PyLong_FromUnsignedLongLong(id);
}

static PyObject *
number_of_device(dev_t device)
{
#ifdef __APPLE__
    return PyLong_FromLong(device);     /* signed there */
#else
    return PyLong_FromUnsignedLongLong(device);
#endif
}

static PyObject *
number_of_ns(struct timespec time)
{
    const int64_t last = INT64_MAX / NS_PER_SECOND - 1;
    if (time.tv_sec <= last && time.tv_sec >= -last)
        return PyLong_FromLongLong((int64_t)time.tv_sec * NS_PER_SECOND + time.tv_nsec);
    PyObject *seconds = PyLong_FromLongLong(time.tv_sec), *unit = PyLong_FromLong(NS_PER_SECOND);
    PyObject *rest = PyLong_FromLong(time.tv_nsec), *product = NULL, *sum = NULL;
    if (seconds != NULL && unit != NULL && rest != NULL)
        product = PyNumber_Multiply(seconds, unit);
    if (product != NULL)
        sum = PyNumber_Add(product, rest);
    Py_XDECREF(seconds);
    Py_XDECREF(unit);
    Py_XDECREF(rest);
    Py_XDECREF(product);
    return sum;
}

static PyObject *
number_of_seconds(struct timespec time)
{
    return PyFloat_FromDouble((double)time.tv_sec + 1e-9 * (double)time.tv_nsec);
}

/* Takes the reference to `value`; -1 if that is NULL. */
static int
set(PyObject *status, Py_ssize_t field, PyObject *value)
{
    if (field < 0) {
        Py_XDECREF(value);
        return 0;
    }
    PyStructSequence_SetItem(status, field, value);
    return value == NULL ? -1 : 0;
}

static int
set_fixed(PyObject *status, const struct stat *found)
{
    return set(status, MODE, PyLong_FromUnsignedLong(found->st_mode)) < 0
                   || set(status, INO, PyLong_FromUnsignedLongLong(found->st_ino)) < 0
                   || set(status, DEV, number_of_device(found->st_dev)) < 0
                   || set(status, NLINK, PyLong_FromUnsignedLongLong(found->st_nlink)) < 0
                   || set(status, UID, number_of_id(found->st_uid, (uid_t)-1)) < 0
                   || set(status, GID, number_of_id(found->st_gid, (gid_t)-1)) < 0
                   || set(status, SIZE, PyLong_FromLongLong(found->st_size)) < 0
                   || set(status, ATIME_SECONDS, PyLong_FromLongLong(ACCESSED(found).tv_sec)) < 0
                   || set(status, MTIME_SECONDS, PyLong_FromLongLong(MODIFIED(found).tv_sec)) < 0
                   || set(status, CTIME_SECONDS, PyLong_FromLongLong(CHANGED(found).tv_sec)) < 0
               ? -1
               : 0;
}

static int
set_named(PyObject *status, const Py_ssize_t *at, const struct stat *found)
{
    return set(status, at[ATIME], number_of_seconds(ACCESSED(found))) < 0
                   || set(status, at[MTIME], number_of_seconds(MODIFIED(found))) < 0
                   || set(status, at[CTIME], number_of_seconds(CHANGED(found))) < 0
                   || set(status, at[ATIME_NS], number_of_ns(ACCESSED(found))) < 0
                   || set(status, at[MTIME_NS], number_of_ns(MODIFIED(found))) < 0
                   || set(status, at[CTIME_NS], number_of_ns(CHANGED(found))) < 0
                   || set(status, at[BLKSIZE], PyLong_FromLongLong(found->st_blksize)) < 0
                   || set(status, at[BLOCKS], PyLong_FromLongLong(found->st_blocks)) < 0
                   || set(status, at[RDEV], number_of_device(found->st_rdev)) < 0
#ifdef UF_NODUMP
                   || set(status, at[FLAGS], PyLong_FromUnsignedLong(found->st_flags)) < 0
#endif
               ? -1
               : 0;
}

/* What os.lstat returns; None in the fields of this platform that this file does not know. */
static PyObject *
status_of(const files_state *state, const struct stat *found)
{
    PyObject *status = PyStructSequence_New(state->stat_result);
    if (status == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < state->unknown_fields; i++) {
        Py_INCREF(Py_None);
        PyStructSequence_SetItem(status, state->unknown[i], Py_None);
    }
    if (set_fixed(status, found) < 0 || set_named(status, state->at, found) < 0)
        Py_CLEAR(status);
    return status;
}

/* A reference to every name of a batch, so that they outlive whatever happens to the list meanwhile. */
static int
hold(PyObject *names, Py_ssize_t first, Py_ssize_t count, PyObject **held)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        char *text;
        held[i] = PyList_GET_ITEM(names, first + i);
        if (PyBytes_AsStringAndSize(held[i], &text, NULL) < 0) {
            while (i-- > 0)
                Py_DECREF(held[i]);
            return -1;
        }
        Py_INCREF(held[i]);
    }
    return 0;
}

/* Looks at a batch without the GIL; errors[i] is 0 where found[i] is filled. */
static void
look(int dir_fd, PyObject *const *names, Py_ssize_t count, struct stat *found, int *errors)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        int failed;
        do
            failed = fstatat(dir_fd, PyBytes_AS_STRING(names[i]), &found[i], AT_SYMLINK_NOFOLLOW);
        while (failed && errno == EINTR);
        errors[i] = failed ? errno : 0;
    }
}

/* Appends what `count` names from `first` on are. */
static int
append_batch(const files_state *state, int dir_fd, PyObject *names, Py_ssize_t first, Py_ssize_t count,
             PyObject *result)
{
    PyObject *held[NAMES_AT_ONCE];
    struct stat found[NAMES_AT_ONCE];
    int errors[NAMES_AT_ONCE], failed = 0;
    if (hold(names, first, count, held) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    look(dir_fd, held, count, found, errors);
    Py_END_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!failed) {
            PyObject *item = errors[i] ? PyLong_FromLong(errors[i]) : status_of(state, &found[i]);
            failed = item == NULL || PyList_Append(result, item) < 0;
            Py_XDECREF(item);
        }
        Py_DECREF(held[i]);
    }
    return failed ? -1 : 0;
}

static PyObject *
stat_names(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int dir_fd;
    if (wants(count, 2, "stat_names") < 0 || get_descriptor(args[0], &dir_fd) < 0)
        return NULL;
    PyObject *names = args[1], *result;
    if (!PyList_Check(names)) {
        PyErr_Format(PyExc_TypeError, "expected a list of names, not %.100s", Py_TYPE(names)->tp_name);
        return NULL;
    }
    if ((result = PyList_New(0)) == NULL)
        return NULL;
    /* The list is asked for its length every time: without the GIL it may have become shorter. */
    for (Py_ssize_t first = 0; first < PyList_GET_SIZE(names); first += NAMES_AT_ONCE) {
        Py_ssize_t batch = PyList_GET_SIZE(names) - first;
        if (batch > NAMES_AT_ONCE)
            batch = NAMES_AT_ONCE;
        if (append_batch(PyModule_GetState(module), dir_fd, names, first, batch, result) < 0
            || PyErr_CheckSignals() < 0) {
            Py_DECREF(result);
            return NULL;
        }
    }
    return result;
}

/* Writes what pack_items has for one item; -1 if the status is none. */
static int
pack_item(files_state *state, const char *name, size_t length, PyObject *status, char *out)
{
    identity found;
    if (get_identity(state, status, &found) < 0)
        return -1;
    uint64_t numbers[PACKED_NUMBERS] = {
        found.mode, found.uid, found.gid, S_ISDIR((mode_t)found.mode) ? 0 : found.size, found.mtime, found.ctime,
        found.ino,
    };
    memcpy(out, name, length + 1);
    out += length + 1;
    for (int i = 0; i < PACKED_NUMBERS; i++)
        for (int shift = 0; shift < 64; shift += 8)
            *out++ = (char)(numbers[i] >> shift);
    return 0;
}

/* The name and the status of an item, both borrowed; -1 if it is not such a pair. */
static int
split_item(PyObject *item, char **name, Py_ssize_t *length, PyObject **status)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
        PyErr_SetString(PyExc_TypeError, "expected pairs of a name and an os.stat_result");
        return -1;
    }
    *status = PyTuple_GET_ITEM(item, 1);
    return PyBytes_AsStringAndSize(PyTuple_GET_ITEM(item, 0), name, length);
}

/* Appends the bytes of `count` files from `first` on, or None for each that read_batch refused. */
static int
append_files(files_state *state, int dir_fd, PyObject *items, Py_ssize_t first, Py_ssize_t count, Py_ssize_t limit,
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

static PyObject *
pack_items(PyObject *module, PyObject *items)
{
    char *name;
    Py_ssize_t length, size = 0;
    PyObject *status;
    if (!PyList_Check(items)) {
        PyErr_Format(PyExc_TypeError, "expected a list of items, not %.100s", Py_TYPE(items)->tp_name);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        if (split_item(PyList_GET_ITEM(items, i), &name, &length, &status) < 0)
            return NULL;
        size += length + 1 + PACKED_NUMBERS * 8;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (result == NULL)
        return NULL;
    char *out = PyBytes_AS_STRING(result);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        if (split_item(PyList_GET_ITEM(items, i), &name, &length, &status) < 0
            || pack_item(PyModule_GetState(module), name, (size_t)length, status, out) < 0) {
            Py_DECREF(result);
            return NULL;
        }
        out += length + 1 + PACKED_NUMBERS * 8;
    }
    return result;
}

/* Finds the fields of os.stat_result: one that holds their positions tells by name where each of them is. */
static int
find_fields(files_state *state, Py_ssize_t fields)
{
    char known[MAX_FIELDS] = {0};
    PyObject *probe = PyStructSequence_New(state->stat_result);
    if (probe == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < fields; i++)
        if (set(probe, i, PyLong_FromSsize_t(i)) < 0)
            goto failed;
    for (int i = 0; i < NAMED_FIELDS; i++) {
        PyObject *position = PyObject_GetAttrString(probe, field_names[i]);
        if (position == NULL && (i < NEEDED_FIELDS || !PyErr_ExceptionMatches(PyExc_AttributeError)))
            goto failed;
        PyErr_Clear();
        state->at[i] = position == NULL ? -1 : PyLong_AsSsize_t(position);
        Py_XDECREF(position);
        if (state->at[i] >= 0)
            known[state->at[i]] = 1;
    }
    Py_DECREF(probe);
    for (Py_ssize_t i = FIXED_FIELDS; i < fields; i++)
        if (!known[i])
            state->unknown[state->unknown_fields++] = i;
    return 0;
failed:
    Py_DECREF(probe);
    return -1;
}

static int
execute(PyObject *module)
{
    files_state *state = PyModule_GetState(module);
    PyObject *os = PyImport_ImportModule("os"), *type = NULL, *number = NULL;
    Py_ssize_t fields = -1;
    if (os != NULL && (type = PyObject_GetAttrString(os, "stat_result")) != NULL
        && (number = PyObject_GetAttrString(type, "n_fields")) != NULL)
        fields = PyLong_AsSsize_t(number);
    Py_XDECREF(number);
    Py_XDECREF(os);
    state->stat_result = (PyTypeObject *)type;
    if (PyErr_Occurred())
        return -1;
    if (!PyType_Check(type) || fields < FIXED_FIELDS || fields > MAX_FIELDS) {
        PyErr_SetString(PyExc_ImportError, "os.stat_result is not what it is elsewhere");
        return -1;
    }
    return find_fields(state, fields);
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    files_state *state = PyModule_GetState(module);
    Py_VISIT(state->stat_result);
    return 0;
}

static int
clear(PyObject *module)
{
    files_state *state = PyModule_GetState(module);
    Py_CLEAR(state->stat_result);
    return 0;
}

static PyMethodDef methods[] = {
    {"pack_items", pack_items, METH_O, PyDoc_STR("pack_items(items, /)\n--\n\nmany_names.py says what.")},
    {"read_small_files", (PyCFunction)(void (*)(void))read_small_files, METH_FASTCALL,
     PyDoc_STR("read_small_files(dir_fd, items, limit, /)\n--\n\nsmall_files.py says what.")},
    {"stat_names", (PyCFunction)(void (*)(void))stat_names, METH_FASTCALL,
     PyDoc_STR("stat_names(dir_fd, names, /)\n--\n\nmany_names.py says what.")},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_files",
    .m_doc = PyDoc_STR("System calls on source files, several for one release of the GIL."),
    .m_size = sizeof(files_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__files(void)
{
    return PyModuleDef_Init(&module);
}
