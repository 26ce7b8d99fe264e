/* How new bytes are made from old ones: the search for it, and its carrying out. See patch.py for what a script is. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define HEAD 4
/* Every eighth place of the old bytes is remembered, by the sixteen bytes that begin there: whatever is alike for 23 bytes is found. */
#define STRIDE 8
#define WINDOW 16
#define MAX_TABLE_BITS 17
/* Where it was expected, less will do: such an operation is short. */
#define MIN_EXPECTED 12
/* So much in the expected place, and no other is looked for. */
#define ENOUGH 64
#define MAX_VARINT 5

static inline uint64_t
word(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8);
    return value;
}

static inline uint32_t
slot_of(const uint8_t *at, int bits)
{
    uint64_t mixed = word(at) * UINT64_C(0x9E3779B185EBCA87) ^ word(at + 8) * UINT64_C(0xC2B2AE3D27D4EB4F);
    return (uint32_t)(mixed * UINT64_C(0x9E3779B185EBCA87) >> (64 - bits));
}

/* How many of `most` bytes are alike. */
static inline size_t
alike(const uint8_t *a, const uint8_t *b, size_t most)
{
    size_t n = 0;
    while (n + 8 <= most) {
        if (word(a + n) != word(b + n))
            break;
        n += 8;
    }
    while (n < most && a[n] == b[n])
        n++;
    return n;
}

static inline size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    for (; value > 127; value >>= 7)
        *at++ = (uint8_t)(value | 128);
    *at++ = (uint8_t)value;
    return at;
}

typedef struct {
    uint8_t *literals, *operations; /* `limit` bytes each, and room for one operation more */
    size_t literal_bytes, operation_bytes, limit;
} script;

static int
put_literals(script *out, const uint8_t *from, size_t count)
{
    if (count > out->limit - out->literal_bytes)
        return 0;
    memcpy(out->literals + out->literal_bytes, from, count);
    out->literal_bytes += count;
    return 1;
}

/* Fill `out`; 0 when it does not fit into its limit. `table` has 1 << bits entries, all 0. */
static int
search(const uint8_t *new, size_t length, const uint8_t *old, size_t old_length, uint32_t *table, int bits, script *out)
{
    for (size_t at = 0; at + WINDOW <= old_length; at += STRIDE)
        table[slot_of(old + at, bits)] = (uint32_t)at + 1;
    size_t at = 0, done = 0, next = 0; /* bytes before `done` are told; the bytes expected there are old[next] */
    while (at < length) {
        size_t from = 0, count = 0;
        size_t expected = next + (at - done);
        if (expected < old_length) {
            size_t most = smaller(length - at, old_length - expected);
            count = alike(new + at, old + expected, most);
            from = expected;
            if (count < MIN_EXPECTED && (count < most || count < 4))
                count = 0;
        }
        if (count < ENOUGH && at + WINDOW <= length) {
            uint32_t known = table[slot_of(new + at, bits)];
            if (known) {
                size_t place = known - 1;
                size_t found = alike(new + at, old + place, smaller(length - at, old_length - place));
                if (found >= WINDOW && found > count + 8) {
                    count = found;
                    from = place;
                }
            }
        }
        if (!count) {
            at++;
            if (at - done > out->limit)
                return 0;
            continue;
        }
        /* What lies before it may be alike as well: it was passed over place by place, or lay between two that are remembered. */
        while (at > done && from && new[at - 1] == old[from - 1]) {
            at--;
            from--;
            count++;
        }
        if (!put_literals(out, new + done, at - done) || out->operation_bytes > out->limit)
            return 0;
        int64_t jump = (int64_t)from - (int64_t)(next + (at - done));
        uint8_t *end = out->operations + out->operation_bytes;
        end = put_varint(end, at - done);
        end = put_varint(end, count);
        end = put_varint(end, ((uint64_t)jump << 1) ^ (uint64_t)(jump >> 63));
        out->operation_bytes = (size_t)(end - out->operations);
        at = done = at + count;
        next = from + count;
    }
    return put_literals(out, new + done, length - done) &&
           HEAD + out->literal_bytes + out->operation_bytes <= out->limit;
}

PyDoc_STRVAR(make_doc, "make(new, old, limit, /) -> bytes | None: a script of at most so many bytes.");

static PyObject *
make(PyObject *module, PyObject *args)
{
    Py_buffer new, old;
    Py_ssize_t limit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*n", &new, &old, &limit))
        return NULL;
    PyObject *result = NULL;
    if (limit < 0 || new.len > INT32_MAX || old.len > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "too long for a patch");
        goto release;
    }
    int bits = 8;
    while (bits < MAX_TABLE_BITS && ((size_t)STRIDE << bits) < (size_t)old.len)
        bits++;
    script out = {.limit = (size_t)limit};
    uint32_t *table = PyMem_RawCalloc((size_t)1 << bits, sizeof *table);
    out.literals = PyMem_RawMalloc(out.limit + 1);
    out.operations = PyMem_RawMalloc(out.limit + 3 * MAX_VARINT + 1);
    if (!table || !out.literals || !out.operations) {
        PyErr_NoMemory();
        goto free;
    }
    int fits;
    Py_BEGIN_ALLOW_THREADS
    fits = search(new.buf, (size_t)new.len, old.buf, (size_t)old.len, table, bits, &out);
    Py_END_ALLOW_THREADS
    if (!fits) {
        result = Py_NewRef(Py_None);
        goto free;
    }
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(HEAD + out.literal_bytes + out.operation_bytes));
    if (result) {
        uint8_t *at = (uint8_t *)PyBytes_AS_STRING(result);
        for (int byte = 0; byte < HEAD; byte++)
            at[byte] = (uint8_t)(out.literal_bytes >> 8 * (HEAD - 1 - byte));
        memcpy(at + HEAD, out.literals, out.literal_bytes);
        memcpy(at + HEAD + out.literal_bytes, out.operations, out.operation_bytes);
    }
free:
    PyMem_RawFree(table);
    PyMem_RawFree(out.literals);
    PyMem_RawFree(out.operations);
release:
    PyBuffer_Release(&new);
    PyBuffer_Release(&old);
    return result;
}

/* 0 at the end of the input, or where a number is longer than any that is needed. */
static int
get_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 7 * MAX_VARINT; shift += 7) {
        if (*at == end)
            return 0;
        uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return 1;
    }
    return 0;
}

/* Whether the script makes exactly `length` bytes of its literals and the old bytes. */
static int
carry_out(const uint8_t *text, size_t text_length, const uint8_t *old, size_t old_length, uint8_t *new, size_t length)
{
    if (text_length < HEAD)
        return 0;
    size_t literals = 0;
    for (int byte = 0; byte < HEAD; byte++)
        literals = literals << 8 | text[byte];
    if (literals > text_length - HEAD)
        return 0;
    const uint8_t *literal = text + HEAD, *at = literal + literals, *end = text + text_length;
    int64_t next = 0;
    size_t done = 0;
    while (at < end) {
        uint64_t count, copied, jump;
        if (!get_varint(&at, end, &count) || !get_varint(&at, end, &copied) || !get_varint(&at, end, &jump))
            return 0;
        if (count > literals || count > length - done || !copied || copied > length - done - count)
            return 0;
        memcpy(new + done, literal, count);
        literal += count;
        literals -= count;
        done += count;
        next += (int64_t)count + ((int64_t)(jump >> 1) ^ -(int64_t)(jump & 1));
        if (next < 0 || (uint64_t)next > old_length || copied > old_length - (uint64_t)next)
            return 0;
        memcpy(new + done, old + next, copied);
        done += copied;
        next += (int64_t)copied;
    }
    if (literals != length - done)
        return 0;
    memcpy(new + done, literal, literals);
    return 1;
}

PyDoc_STRVAR(apply_doc, "apply(script, old, length, /) -> bytes: what it makes. Raises ValueError for any other script.");

static PyObject *
apply(PyObject *module, PyObject *args)
{
    Py_buffer text, old;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*n", &text, &old, &length))
        return NULL;
    PyObject *result = NULL;
    if (length < 0)
        PyErr_SetString(PyExc_ValueError, "a negative length");
    else
        result = PyBytes_FromStringAndSize(NULL, length);
    if (result) {
        int right;
        Py_BEGIN_ALLOW_THREADS
        right = carry_out(text.buf, (size_t)text.len, old.buf, (size_t)old.len, (uint8_t *)PyBytes_AS_STRING(result),
                          (size_t)length);
        Py_END_ALLOW_THREADS
        if (!right) {
            Py_CLEAR(result);
            PyErr_SetString(PyExc_ValueError, "no script for these bytes");
        }
    }
    PyBuffer_Release(&text);
    PyBuffer_Release(&old);
    return result;
}

static PyMethodDef methods[] = {
    {"make", make, METH_VARARGS, make_doc},
    {"apply", apply, METH_VARARGS, apply_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_patch", .m_doc = "patch.py in C.", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__patch(void)
{
    return PyModuleDef_Init(&definition);
}
