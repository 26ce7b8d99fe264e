/* What names are, many of them for one release of the GIL, and the bytes that tell whether anything changed.
 *
 * many_names.py holds the same functions in Python: they are the specification, and serve where this file could not
 * be compiled.
 */

#include "_stat_result.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_AT_ONCE 128           /* names looked at before signals are asked for; 20 KiB of stack */
#define PACKED_NUMBERS 7            /* of an item: mode uid gid size mtime ctime inode */

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
status_of(const stat_state *state, const struct stat *found)
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
append_batch(const stat_state *state, int dir_fd, PyObject *names, Py_ssize_t first, Py_ssize_t count,
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

typedef struct {
    char *bytes;                    /* names, each with its NUL, one after the other */
    size_t length, room;
} name_buffer;

/* Appends a name; 0, or ENOMEM. */
static int
keep_name(name_buffer *names, const char *name)
{
    const size_t length = strlen(name) + 1;
    if (names->room - names->length < length) {
        const size_t room = names->room + names->room / 2 + length + 4096;
        char *larger = realloc(names->bytes, room);
        if (larger == NULL)
            return ENOMEM;
        names->bytes = larger;
        names->room = room;
    }
    memcpy(names->bytes + names->length, name, length);
    names->length += length;
    return 0;
}

/* Reads a directory from its start, without the GIL; 0 or an errno. */
static int
read_names(int dir_fd, name_buffer *names)
{
    const int copy = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return errno;
    DIR *directory = fdopendir(copy);
    if (directory == NULL) {
        const int error = errno;
        close(copy);
        return error;
    }
    rewinddir(directory);           /* the copy shares its place with the original */
    int error = 0;
    while (error == 0) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            error = errno;
            break;
        }
        const char *name = entry->d_name;
        if (name[0] != '.' || (name[1] != 0 && (name[1] != '.' || name[2] != 0)))
            error = keep_name(names, name);
    }
    rewinddir(directory);
    closedir(directory);
    return error;
}

static PyObject *
list_names(PyObject *Py_UNUSED(module), PyObject *descriptor)
{
    int dir_fd, error;
    name_buffer names = {NULL, 0, 0};
    if (get_descriptor(descriptor, &dir_fd) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = read_names(dir_fd, &names);
    Py_END_ALLOW_THREADS
    PyObject *result = NULL;
    if (error == 0)
        result = PyList_New(0);
    else if (error == ENOMEM)
        PyErr_NoMemory();
    else {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    for (size_t at = 0; result != NULL && at < names.length;) {
        const size_t length = strlen(names.bytes + at);
        PyObject *name = PyBytes_FromStringAndSize(names.bytes + at, (Py_ssize_t)length);
        if (name == NULL || PyList_Append(result, name) < 0)
            Py_CLEAR(result);
        Py_XDECREF(name);
        at += length + 1;
    }
    free(names.bytes);
    if (result != NULL && PyList_Sort(result) < 0)
        Py_CLEAR(result);
    return result;
}

/* Writes what pack_items has for one item; -1 if the status is none. */
static int
pack_item(stat_state *state, const char *name, size_t length, PyObject *status, char *out)
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

static PyMethodDef methods[] = {
    {"list_names", list_names, METH_O, PyDoc_STR("list_names(dir_fd, /)\n--\n\nmany_names.py says what.")},
    {"pack_items", pack_items, METH_O, PyDoc_STR("pack_items(items, /)\n--\n\nmany_names.py says what.")},
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
    .m_name = "_many_names",
    .m_doc = PyDoc_STR("What names are, many for one release of the GIL."),
    .m_size = sizeof(stat_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__many_names(void)
{
    return PyModuleDef_Init(&module);
}
