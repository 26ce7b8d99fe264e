/* mysql_dump.py's `count_in_python` in C: the lines of a dump are looked at without the interpreter. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

typedef struct {
    Py_ssize_t rows;
    Py_ssize_t end;
} Found;

/* Lines of text[start:length] that begin with a bracket, up to the first that ends with a semicolon: that is at `end`, or -1. */
static Found
look(const char *text, Py_ssize_t start, Py_ssize_t length)
{
    Found found = {0, -1};
    const char *at = text + start, *stop = text + length;
    while (at < stop && (at = memchr(at, '\n', (size_t)(stop - at)))) {
        if (at > text + start && at[-1] == ';') {
            found.end = at - 1 - text;
            break;
        }
        at++;
        found.rows += at < stop && *at == '(';
    }
    return found;
}

PyDoc_STRVAR(count_doc, "count(text, start, /) -> (rows, end): see mysql_dump.py.");

static PyObject *
count(PyObject *module, PyObject *args)
{
    Py_buffer text;
    Py_ssize_t start;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*n", &text, &start))
        return NULL;
    Found found = {0, -1};
    int inside = start >= 0 && start <= text.len;
    if (inside) {
        Py_BEGIN_ALLOW_THREADS
        found = look(text.buf, start, text.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&text);
    if (!inside) {
        PyErr_SetString(PyExc_ValueError, "the start lies outside of the text");
        return NULL;
    }
    return Py_BuildValue("nn", found.rows, found.end);
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS, count_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_rows", .m_doc = "Rows of a dump.", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__rows(void)
{
    return PyModuleDef_Init(&definition);
}
