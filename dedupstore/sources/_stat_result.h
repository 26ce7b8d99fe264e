/* os.stat_result from C, and what small_files.c and many_names.c ask of their callers' arguments.
 *
 * Each of the two modules includes this file and keeps a `stat_state` as its state.
 */

#ifndef DEDUPSTORE_STAT_RESULT_H
#define DEDUPSTORE_STAT_RESULT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structseq.h>

#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#define NS_PER_SECOND 1000000000
#define MAX_FIELDS 64               /* of os.stat_result; Linux has 19 */

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
} stat_state;

/* What the caller knows of a file, as far as it must not have changed. Times modulo 2**64 ns: a file that moves
 * by exactly 584 years while it is read may be mistaken for one that held still. */
typedef struct {
    uint64_t dev, ino, mode, uid, gid, size, mtime, ctime;
} identity;

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
get_identity(stat_state *state, PyObject *status, identity *expected)
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

/* Finds the fields of os.stat_result: one that holds their positions tells by name where each of them is. */
static int
find_fields(stat_state *state, Py_ssize_t fields)
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

/* The module slots of both modules. */
static int
execute(PyObject *module)
{
    stat_state *state = PyModule_GetState(module);
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
    stat_state *state = PyModule_GetState(module);
    Py_VISIT(state->stat_result);
    return 0;
}

static int
clear(PyObject *module)
{
    stat_state *state = PyModule_GetState(module);
    Py_CLEAR(state->stat_result);
    return 0;
}

#endif
