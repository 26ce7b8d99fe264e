/* The chunker's kernel: the cut rule of reference.py at memory speed.
 *
 * reference.py is the specification; this file must give the same cuts for every input, on every
 * path. A Gear object is a table prepared for scanning and never changes afterwards, so any number
 * of threads may cut with one; the GIL is released during a call.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

enum { WINDOW = 64, ENTRIES = 256, TABLE_BYTES = ENTRIES * 8, CACHE_LINE = 64 };

typedef struct gear gear;

/* A path: the first position p in [from, to) whose hash has no bit of `mask` set, or `to`.
 * data[from - WINDOW .. to - 1) must be readable: the caller asks for no position below WINDOW. */
typedef size_t scan_function(const gear *g, const uint8_t *data, size_t from, size_t to, uint64_t mask);

struct gear {
    PyObject_HEAD
    scan_function *scan;
    const char *path;
    uint64_t table[ENTRIES];
    uint64_t doubled[ENTRIES];      /* table[b] << 1 */
    uint8_t *planes;                /* byte i of table[b] at 256 * i + b, on a cache line's boundary */
    uint8_t planes_space[8 * ENTRIES + CACHE_LINE];
};

/* CutRule of params.py, with masks in place of numbers of bits. */
typedef struct {
    Py_ssize_t minimum, normal, maximum, page_size;
    uint64_t strict_mask, loose_mask;
} cut_rule;

static uint64_t
hash_window(const gear *g, const uint8_t *end)
{
    uint64_t h = 0;
    for (int i = -WINDOW; i < 0; i += 2)
        h = (h << 2) + g->doubled[end[i]] + g->table[end[i + 1]];
    return h;
}

/* Two bytes a step: the next step waits for one shift and one addition only, because what the two
 * bytes add up to does not depend on the hash so far. */
static size_t
scan_portable(const gear *g, const uint8_t *data, size_t from, size_t to, uint64_t mask)
{
    if (from >= to)
        return to;
    const uint64_t *table = g->table, *doubled = g->doubled;
    uint64_t h = hash_window(g, data + from);
    if (!(h & mask))
        return from;
    size_t p = from;
    while (to - p > 4) {
        uint64_t odd = (h << 1) + table[data[p]];
        h = (h << 2) + (doubled[data[p]] + table[data[p + 1]]);
        if (!(odd & mask))
            return p + 1;
        if (!(h & mask))
            return p + 2;
        odd = (h << 1) + table[data[p + 2]];
        h = (h << 2) + (doubled[data[p + 2]] + table[data[p + 3]]);
        if (!(odd & mask))
            return p + 3;
        if (!(h & mask))
            return p + 4;
        p += 4;
    }
    while (to - p > 1) {
        h = (h << 1) + table[data[p++]];
        if (!(h & mask))
            return p;
    }
    return to;
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX512_PATH
#include "_gear_avx512.h"
#endif

/* As a scan_function, but only every page_size-th position from `from` on is tried, and 64 zero
 * bytes are never a candidate. */
static size_t
scan_pages(const gear *g, const uint8_t *data, size_t from, size_t to, uint64_t mask, size_t page_size)
{
    static const uint8_t zeros[WINDOW];
    for (size_t p = from; p < to; p += page_size)
        if (!(hash_window(g, data + p) & mask) && memcmp(data + p - WINDOW, zeros, WINDOW) != 0)
            return p;
    return to;
}

/* The length of the chunk that begins at data, of which `length` > 0 bytes are at hand. */
static size_t
chunk_length(const gear *g, const uint8_t *data, size_t length, const cut_rule *rule)
{
    size_t first = (size_t)rule->minimum;
    size_t limit = length < (size_t)rule->maximum ? length : (size_t)rule->maximum;
    size_t normal = limit < (size_t)rule->normal ? limit : (size_t)rule->normal;
    if (first >= limit)
        return limit;
    if (rule->page_size) {
        size_t p = scan_pages(g, data, first, normal, rule->strict_mask, (size_t)rule->page_size);
        if (p < normal)
            return p;
        return scan_pages(g, data, normal, limit, rule->loose_mask, (size_t)rule->page_size);
    }
    size_t p = g->scan(g, data, first, normal, rule->strict_mask);
    if (p < normal)
        return p;
    return g->scan(g, data, normal, limit, rule->loose_mask);
}

/* Writes the end of every chunk to `ends` and returns their number, at most 1 + length / minimum. */
static Py_ssize_t
cut(const gear *g, const uint8_t *data, size_t length, const cut_rule *rule, int final, size_t *ends)
{
    Py_ssize_t count = 0;
    size_t start = 0;
    while (length - start >= (size_t)rule->maximum || (final && start < length)) {
        start += chunk_length(g, data + start, length - start, rule);
        ends[count++] = start;
    }
    return count;
}

static int
page_aligned(Py_ssize_t length, Py_ssize_t page_size)
{
    return page_size == 0 || length % page_size == 0;
}

/* The bounds that keep every read inside the buffer. params.py knows the sensible ones. */
static int
rule_is_safe(const cut_rule *rule, int strict_bits, int loose_bits)
{
    return rule->minimum >= WINDOW && rule->minimum <= rule->normal && rule->minimum <= rule->maximum
           && rule->page_size >= 0 && page_aligned(rule->minimum, rule->page_size)
           && page_aligned(rule->normal, rule->page_size) && page_aligned(rule->maximum, rule->page_size)
           && strict_bits >= 0 && strict_bits <= 63 && loose_bits >= 0 && loose_bits <= 63;
}

static uint64_t
highest_bits(int count)
{
    return count == 0 ? 0 : UINT64_MAX << (64 - count);
}

static PyObject *
list_of(const size_t *ends, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *end = PyLong_FromSize_t(ends[i]);
        if (end == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, end);
    }
    return list;
}

/* Turns the numbers of bits into masks; -1 with an exception for what is no rule. */
static int
check_rule(cut_rule *rule, int strict_bits, int loose_bits)
{
    if (!rule_is_safe(rule, strict_bits, loose_bits)) {
        PyErr_SetString(PyExc_ValueError, "not a cut rule");
        return -1;
    }
    rule->strict_mask = highest_bits(strict_bits);
    rule->loose_mask = highest_bits(loose_bits);
    return 0;
}

static PyObject *
gear_cuts(gear *self, PyObject *args)
{
    Py_buffer buffer;
    Py_ssize_t length;
    cut_rule rule;
    int strict_bits, loose_bits, final;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*n(nnniin)p:cuts", &buffer, &length, &rule.minimum, &rule.normal, &rule.maximum,
                          &strict_bits, &loose_bits, &rule.page_size, &final))
        return NULL;
    if (length < 0 || length > buffer.len) {
        PyErr_Format(PyExc_ValueError, "length %zd is outside the buffer of %zd bytes", length, buffer.len);
        goto done;
    }
    if (check_rule(&rule, strict_bits, loose_bits) < 0)
        goto done;
    size_t *ends = PyMem_New(size_t, (size_t)(length / rule.minimum) + 1);
    if (ends == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t count;
    Py_BEGIN_ALLOW_THREADS
    count = cut(self, buffer.buf, (size_t)length, &rule, final, ends);
    Py_END_ALLOW_THREADS
    result = list_of(ends, count);
    PyMem_Free(ends);
done:
    PyBuffer_Release(&buffer);
    return result;
}

/* Cuts bytes objects that the caller holds; a list of lists. */
static PyObject *
cuts_of_all(gear *self, PyObject *streams, const cut_rule *rule)
{
    Py_ssize_t count = PyTuple_GET_SIZE(streams), room = 0, at = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyBytes_Check(PyTuple_GET_ITEM(streams, i))) {
            PyErr_SetString(PyExc_TypeError, "expected bytes");
            return NULL;
        }
        room += PyBytes_GET_SIZE(PyTuple_GET_ITEM(streams, i)) / rule->minimum + 1;
    }
    size_t *ends = PyMem_New(size_t, (size_t)room + 1);
    Py_ssize_t *counts = PyMem_New(Py_ssize_t, (size_t)count + 1);
    PyObject *result = ends == NULL || counts == NULL ? PyErr_NoMemory() : PyList_New(count);
    if (result != NULL) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *stream = PyTuple_GET_ITEM(streams, i);
            counts[i] = cut(self, (const uint8_t *)PyBytes_AS_STRING(stream), (size_t)PyBytes_GET_SIZE(stream), rule,
                            1, ends + at);
            at += counts[i];
        }
        Py_END_ALLOW_THREADS
        at = 0;
    }
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *list = list_of(ends + at, counts[i]);
        at += counts[i];
        if (list == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, list);
    }
    PyMem_Free(ends);
    PyMem_Free(counts);
    return result;
}

static PyObject *
gear_cuts_of_all(gear *self, PyObject *args)
{
    PyObject *streams;
    cut_rule rule;
    int strict_bits, loose_bits;
    if (!PyArg_ParseTuple(args, "O!(nnniin):cuts_of_all", &PyTuple_Type, &streams, &rule.minimum, &rule.normal,
                          &rule.maximum, &strict_bits, &loose_bits, &rule.page_size)
        || check_rule(&rule, strict_bits, loose_bits) < 0)
        return NULL;
    return cuts_of_all(self, streams, &rule);
}

typedef struct {
    const char *name;
    scan_function *scan;
    int (*usable)(void);
} scan_path;

static int
always(void)
{
    return 1;
}

/* Best first. */
static const scan_path paths[] = {
#ifdef HAVE_AVX512_PATH
    {"avx512", scan_avx512, have_avx512},
#endif
    {"portable", scan_portable, always},
};

static const scan_path *
find_path(const char *name)
{
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i].usable() && (name == NULL || strcmp(name, paths[i].name) == 0))
            return &paths[i];
    return NULL;
}

static void
prepare(gear *g, const uint8_t *table)
{
    g->planes = g->planes_space + (CACHE_LINE - (uintptr_t)g->planes_space % CACHE_LINE);
    for (int b = 0; b < ENTRIES; b++) {
        uint64_t value = 0;
        for (int i = 7; i >= 0; i--)
            value = value << 8 | table[8 * b + i];
        g->table[b] = value;
        g->doubled[b] = value << 1;
        for (int i = 0; i < 8; i++)
            g->planes[ENTRIES * i + b] = table[8 * b + i];
    }
}

static PyObject *
gear_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"table", "path", NULL};
    Py_buffer table;
    const char *name = NULL;
    gear *self = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "y*|z:Gear", names, &table, &name))
        return NULL;
    const scan_path *path = find_path(name);
    if (table.len != TABLE_BYTES)
        PyErr_Format(PyExc_ValueError, "a gear table has %d bytes, not %zd", TABLE_BYTES, table.len);
    else if (path == NULL)
        PyErr_Format(PyExc_ValueError, "no path %s on this machine", name);
    else if ((self = (gear *)type->tp_alloc(type, 0)) != NULL) {
        self->scan = path->scan;
        self->path = path->name;
        prepare(self, table.buf);
    }
    PyBuffer_Release(&table);
    return (PyObject *)self;
}

static void
gear_dealloc(gear *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
gear_path(gear *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(self->path);
}

static PyMethodDef gear_methods[] = {
    {"cuts", (PyCFunction)gear_cuts, METH_VARARGS,
     PyDoc_STR("cuts(buffer, length, rule, final)\n--\n\nThe end of every chunk in the first `length` bytes.")},
    {"cuts_of_all", (PyCFunction)gear_cuts_of_all, METH_VARARGS,
     PyDoc_STR("cuts_of_all(streams, rule)\n--\n\nThe cuts of each of many whole streams.")},
    {NULL},
};

static PyGetSetDef gear_getset[] = {
    {"path", (getter)gear_path, NULL, PyDoc_STR("Which of PATHS scans."), NULL},
    {NULL},
};

static PyType_Slot gear_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Gear(table, path=None)\n--\n\nA gear table and the cuts it makes.")},
    {Py_tp_new, gear_new},
    {Py_tp_dealloc, gear_dealloc},
    {Py_tp_methods, gear_methods},
    {Py_tp_getset, gear_getset},
    {0, NULL},
};

static PyType_Spec gear_spec = {
    .name = "dedupstore.chunking._gear.Gear",
    .basicsize = sizeof(gear),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = gear_slots,
};

static PyObject *
usable_paths(void)
{
    PyObject *list = PyList_New(0), *result = NULL;
    for (size_t i = 0; list != NULL && i < sizeof paths / sizeof *paths; i++) {
        if (!paths[i].usable())
            continue;
        PyObject *name = PyUnicode_FromString(paths[i].name);
        if (name == NULL || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    if (list != NULL)
        result = PyList_AsTuple(list);
    Py_XDECREF(list);
    return result;
}

static int
add_object(PyObject *module, const char *name, PyObject *object)
{
    int failed = object == NULL || PyModule_AddObjectRef(module, name, object) < 0;
    Py_XDECREF(object);
    return failed ? -1 : 0;
}

static int
execute(PyObject *module)
{
    if (add_object(module, "PATHS", usable_paths()) < 0)
        return -1;
    return add_object(module, "Gear", PyType_FromModuleAndSpec(module, &gear_spec, NULL));
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_gear",
    .m_doc = PyDoc_STR("The chunker's kernel in C. reference.py is its specification."),
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__gear(void)
{
    return PyModuleDef_Init(&module);
}
