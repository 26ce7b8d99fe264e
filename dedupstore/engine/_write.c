/* Writes many small files with one release of the GIL, so that worker threads write while others run Python.
 *
 * small_writes.py holds the same function in Python: it is the specification, and serves where this file could
 * not be compiled.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000
#define FIELDS 9                    /* of an item of the batch */
#define UNCHANGED UINT32_MAX        /* -1 in Python: leave the mode, or the owner, as it was made */

#define CREATE_FLAGS (O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY)

/* Names belong to the items, which the caller keeps alive; `data` is exported until release(). */
typedef struct {
    int dir_fd;
    const char *temporary;
    const char *name;
    Py_buffer data;
    uint32_t created_mode, mode, uid, gid;
    int64_t mtime;
    int error;
} small_file;

/* Whether a name stays in its directory. It does, or the manifest would not have been decoded; but nothing else
 * stands between a name and the root's rights. */
static int
is_plain_name(const char *name)
{
    return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int
write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : EIO;
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int
fill(int fd, const small_file *file)
{
    /* Rounded down: nanoseconds count forward from the second also before 1970. */
    int64_t seconds = file->mtime / NS_PER_SECOND, rest = file->mtime % NS_PER_SECOND;
    if (rest < 0) {
        rest += NS_PER_SECOND;
        seconds--;
    }
    const struct timespec modified = {(time_t)seconds, (long)rest};
    const struct timespec times[2] = {modified, modified};
    int error = write_all(fd, file->data.buf, (size_t)file->data.len);
    if (error != 0)
        return error;
    /* The owner before the mode: a change of owner clears setuid, and the old owner must not get the new rights. */
    if ((file->uid != UNCHANGED || file->gid != UNCHANGED) && fchown(fd, (uid_t)file->uid, (gid_t)file->gid) != 0)
        return errno;
    if (file->mode != UNCHANGED && fchmod(fd, (mode_t)file->mode) != 0)
        return errno;
    return futimens(fd, times) == 0 ? 0 : errno;
}

/* Makes one file visible under its name, complete, or not at all. Returns 0 or an errno. */
static int
write_file(const small_file *file)
{
    int fd, error;
    if (!is_plain_name(file->temporary) || !is_plain_name(file->name))
        return EINVAL;
    do {
        fd = openat(file->dir_fd, file->temporary, CREATE_FLAGS, (mode_t)file->created_mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno;
    error = fill(fd, file);
    /* Closed before it gets its name: network file systems tell here that there was no room. Never twice on
     * EINTR: the descriptor is gone, and its number may be another thread's. */
    if (close(fd) != 0 && errno != EINTR && error == 0)
        error = errno;
    if (error == 0 && renameat(file->dir_fd, file->temporary, file->dir_fd, file->name) != 0)
        error = errno;
    if (error != 0)
        unlinkat(file->dir_fd, file->temporary, 0);
    return error;
}

/* A mode or an id of 32 bits, or -1; anything else sets an exception. */
static uint32_t
get_number(PyObject *number)
{
    long long value = PyLong_AsLongLong(number);
    if (value == -1 && PyErr_Occurred())
        return 0;
    if (value < -1 || value >= UNCHANGED) {
        PyErr_SetString(PyExc_OverflowError, "a mode or an owner is out of range");
        return 0;
    }
    return value < 0 ? UNCHANGED : (uint32_t)value;
}

static int
get_descriptor(PyObject *number)
{
    long value = PyLong_AsLong(number);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "not a file descriptor");
        return -1;
    }
    return (int)value;
}

/* -1 and an exception if `item` is not what it should be; then nothing has to be released. */
static int
get_file(PyObject *item, small_file *file)
{
    char *temporary, *name;
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != FIELDS) {
        PyErr_SetString(PyExc_TypeError, "expected tuples of nine fields");
        return -1;
    }
    if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(item, 1), &temporary, NULL) < 0
        || PyBytes_AsStringAndSize(PyTuple_GET_ITEM(item, 2), &name, NULL) < 0)
        return -1;
    file->temporary = temporary;
    file->name = name;
    file->dir_fd = get_descriptor(PyTuple_GET_ITEM(item, 0));
    if (PyErr_Occurred())
        return -1;
    uint32_t *const numbers[] = {&file->created_mode, &file->mode, &file->uid, &file->gid};
    for (int i = 0; i < 4; i++) {
        *numbers[i] = get_number(PyTuple_GET_ITEM(item, 4 + i));
        if (PyErr_Occurred())
            return -1;
    }
    file->mtime = PyLong_AsLongLong(PyTuple_GET_ITEM(item, 8));
    if (PyErr_Occurred())
        return -1;
    file->error = 0;
    return PyObject_GetBuffer(PyTuple_GET_ITEM(item, 3), &file->data, PyBUF_SIMPLE);
}

static PyObject *
errors_of(const small_file *files, Py_ssize_t count)
{
    PyObject *result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLong(files[i].error);
        if (number == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, number);
    }
    return result;
}

static PyObject *
write_files(PyObject *Py_UNUSED(module), PyObject *batch)
{
    if (!PyList_Check(batch)) {
        PyErr_Format(PyExc_TypeError, "expected a list of files, not %.100s", Py_TYPE(batch)->tp_name);
        return NULL;
    }
    /* A tuple of tuples: nobody can take an item or a name away while the GIL is released. */
    PyObject *items = PyList_AsTuple(batch), *result = NULL;
    if (items == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(items), held = 0;
    small_file *files = PyMem_New(small_file, count);
    if (files == NULL) {
        Py_DECREF(items);
        return PyErr_NoMemory();
    }
    /* Everything is looked at before anything is written: a wrong argument leaves no trace. */
    while (held < count && get_file(PyTuple_GET_ITEM(items, held), &files[held]) == 0)
        held++;
    if (held == count) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            files[i].error = write_file(&files[i]);
        Py_END_ALLOW_THREADS
        result = errors_of(files, count);
    }
    for (Py_ssize_t i = 0; i < held; i++)
        PyBuffer_Release(&files[i].data);
    PyMem_Free(files);
    Py_DECREF(items);
    return result;
}

static PyMethodDef methods[] = {
    {"write_files", write_files, METH_O, PyDoc_STR("write_files(batch, /)\n--\n\nsmall_writes.py says what.")},
    {NULL},
};

static PyModuleDef_Slot slots[] = {
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_write",
    .m_doc = PyDoc_STR("Writes many small files with one release of the GIL."),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__write(void)
{
    return PyModuleDef_Init(&module);
}
