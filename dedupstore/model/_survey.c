/* What a directory manifest refers to, and its entries, when every byte of it is as our own writer would have put it.
 *
 * survey.py and rows.py hold the same functions in Python: they are the specification, and serve where this file could
 * not be compiled. Those here may say None ("I do not know") where those give an answer, never the reverse, and never
 * another answer: what is refused, and how, Python alone decides.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define MAX_BYTES (16 << 20)        /* this and the next: wire.py */
#define MAX_ARRAYS (1 << 18)
#define MAX_ENTRIES 4096            /* tree.py */
#define MAX_NAME 4095               /* this and what follows: entry.py */
#define MAX_INLINE_CHUNKS 256
#define MAX_CHUNK_BYTES 0xFFFFFF
#define MAX_OWNER 256
#define ID_BYTES 32
#define REFERENCE_BYTES 35
#define SECOND 1000000000

/* Bytes still to be read, and how many arrays began in those before. Every reader below returns 0 and leaves the rest undefined where they are not what it wants. */
typedef struct {
    const uint8_t *at, *end;
    unsigned arrays;
} input;

typedef struct {
    const uint8_t *data;
    size_t length;
} span;

/* One row. A field that is absent is empty or 0, as in Entry; `has` has a bit for each key met. */
typedef struct {
    span name, content, tree, hash, target, user, group;
    int64_t mtime, ctime, uid, gid, mode, size, page_size, link_group;
    uint8_t kind;
    uint32_t has;
} row;

enum { CT = 1, G = 2, K = 4, M = 8, MT = 16, N = 32, U = 64, D = 128, X = 256 };
#define REQUIRED (CT | G | K | M | MT | N | U)

static int
read_byte(input *in, uint8_t *byte)
{
    if (in->at == in->end)
        return 0;
    *byte = *in->at++;
    return 1;
}

/* A big-endian number of `width` bytes. */
static int
read_raw(input *in, int width, uint64_t *number)
{
    if (in->end - in->at < width)
        return 0;
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | *in->at++;
    *number = value;
    return 1;
}

/* A whole number that fits in 64 signed bits, in its shortest form. */
static int
read_int(input *in, int64_t *number)
{
    uint8_t head;
    uint64_t raw;
    if (!read_byte(in, &head))
        return 0;
    if (head < 0x80) {
        *number = head;
        return 1;
    }
    if (head >= 0xE0) {
        *number = (int64_t)head - 0x100;
        return 1;
    }
    if (head >= 0xCC && head <= 0xCF) {
        static const uint64_t above[4] = {0x7F, 0xFF, 0xFFFF, 0xFFFFFFFF};
        if (!read_raw(in, 1 << (head - 0xCC), &raw) || raw <= above[head - 0xCC] || raw > INT64_MAX)
            return 0;
        *number = (int64_t)raw;
        return 1;
    }
    if (head >= 0xD0 && head <= 0xD3) {
        static const int64_t below[4] = {-0x20, -0x80, -0x8000, -0x80000000LL};
        int width = 1 << (head - 0xD0);
        if (!read_raw(in, width, &raw))
            return 0;
        /* The sign bit of the width, spread over all bits above it. */
        uint64_t sign = (uint64_t)1 << (8 * width - 1);
        uint64_t wide = (raw ^ sign) - sign;
        if (!(raw & sign))
            return 0;
        *number = -(int64_t)(~wide) - 1;
        return *number < below[head - 0xD0];
    }
    return 0;
}

/* `length` bytes where they lie. */
static int
read_span(input *in, uint64_t length, span *found)
{
    if ((uint64_t)(in->end - in->at) < length)
        return 0;
    found->data = in->at;
    found->length = (size_t)length;
    in->at += length;
    return 1;
}

static int
read_bin(input *in, span *found)
{
    uint8_t head;
    uint64_t length;
    if (!read_byte(in, &head) || head < 0xC4 || head > 0xC6 || !read_raw(in, 1 << (head - 0xC4), &length))
        return 0;
    if ((head == 0xC5 && length <= 0xFF) || (head == 0xC6 && length <= 0xFFFF))
        return 0;
    return read_span(in, length, found);
}

/* The bytes of a text, whatever they are. */
static int
read_string(input *in, span *found)
{
    uint8_t head;
    uint64_t length;
    if (!read_byte(in, &head))
        return 0;
    if (head >= 0xA0 && head <= 0xBF)
        length = head - 0xA0;
    else if (head == 0xD9 ? !read_raw(in, 1, &length) || length < 32
                          : head != 0xDA || !read_raw(in, 2, &length) || length <= 0xFF)
        return 0;
    return read_span(in, length, found);
}

static int
is_ascii(span text)
{
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] >= 0x80)
            return 0;
    return 1;
}

static int
read_text(input *in, span *found)
{
    return read_string(in, found) && is_ascii(*found);
}

/* The head of an array; up to 65535 items. Python refuses a page of too many, for each costs memory there. */
static int
read_array(input *in, uint64_t *count)
{
    uint8_t head;
    if (++in->arrays > MAX_ARRAYS || !read_byte(in, &head))
        return 0;
    if (head >= 0x90 && head <= 0x9F) {
        *count = head - 0x90;
        return 1;
    }
    return head == 0xDC && read_raw(in, 2, count) && *count > 15;
}

/* A key of one or two letters as a number that sorts as the key does. */
static int
read_key(input *in, unsigned *key)
{
    span text;
    if (!read_text(in, &text) || text.length < 1 || text.length > 2)
        return 0;
    *key = (unsigned)text.data[0] << 8 | (text.length == 2 ? text.data[1] : 0);
    /* A second letter of 0 would make it the key of one letter. */
    return text.length == 1 || text.data[1] != 0;
}

static int
ascends(span before, span next)
{
    size_t common = before.length < next.length ? before.length : next.length;
    int order = common ? memcmp(before.data, next.data, common) : 0;
    return order ? order < 0 : before.length < next.length;
}

static int
holds(span text, int byte)
{
    return text.length && memchr(text.data, byte, text.length) != NULL;
}

static int
read_number(input *in, int64_t limit, int64_t *number)
{
    return read_int(in, number) && *number >= 0 && *number < limit;
}

/* The one text that need not be ASCII. Python says what else is text, and how long it is. */
static int
read_owner(input *in, span *name)
{
    if (!read_string(in, name))
        return 0;
    if (is_ascii(*name))
        return name->length <= MAX_OWNER;
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)name->data, (Py_ssize_t)name->length, NULL);
    if (decoded == NULL) {
        PyErr_Clear();
        return 0;
    }
    int fits = PyUnicode_GET_LENGTH(decoded) <= MAX_OWNER;
    Py_DECREF(decoded);
    return fits;
}

static int
read_kind(input *in, uint8_t *kind)
{
    span text;
    if (!read_text(in, &text) || text.length != 1)
        return 0;
    *kind = text.data[0];
    /* Devices, 'c' and 'b', have a number, which is left to Python. */
    return *kind == 'f' || *kind == 'd' || *kind == 'l' || *kind == 'p' || *kind == 's';
}

static int
read_xattrs(input *in)
{
    uint64_t count, two;
    span last = {NULL, 0}, name, value;
    if (!read_array(in, &count))
        return 0;
    for (; count; count--) {
        if (!read_array(in, &two) || two != 2 || !read_bin(in, &name) || !read_bin(in, &value))
            return 0;
        if (!ascends(last, name) || holds(name, 0))
            return 0;
        last = name;
    }
    return 1;
}

#define KEY(first, second) ((unsigned)(first) << 8 | (second))

static int
read_field(input *in, unsigned key, row *found)
{
    const int64_t int32 = (int64_t)1 << 32;
    switch (key) {
    case KEY('c', 0):
        return read_bin(in, &found->content);
    case KEY('c', 't'):
        found->has |= CT;
        return read_int(in, &found->ctime);
    case KEY('d', 0):
        found->has |= D;
        return read_bin(in, &found->tree);
    case KEY('g', 0):
        found->has |= G;
        return read_number(in, int32, &found->gid);
    case KEY('g', 'n'):
        return read_owner(in, &found->group);
    case KEY('h', 0):
        return read_bin(in, &found->hash);
    case KEY('k', 0):
        found->has |= K;
        return read_kind(in, &found->kind);
    case KEY('l', 0):
        return read_bin(in, &found->target);
    case KEY('l', 'g'):
        return read_number(in, INT64_MAX, &found->link_group);
    case KEY('m', 0):
        found->has |= M;
        return read_number(in, 1 << 12, &found->mode);
    case KEY('m', 't'):
        found->has |= MT;
        return read_int(in, &found->mtime);
    case KEY('n', 0):
        found->has |= N;
        return read_bin(in, &found->name);
    case KEY('p', 's'):
        return read_number(in, int32, &found->page_size);
    case KEY('s', 0):
        return read_number(in, INT64_MAX, &found->size);
    case KEY('u', 0):
        found->has |= U;
        return read_number(in, int32, &found->uid);
    case KEY('u', 'n'):
        return read_owner(in, &found->user);
    case KEY('x', 0):
        found->has |= X;
        return read_xattrs(in);
    default:
        return 0;
    }
}

static int
sum_fits(int64_t one, int64_t other)
{
    return other >= 0 ? one <= INT64_MAX - other : one >= INT64_MIN - other;
}

static int
name_is_right(span name)
{
    if (name.length == 0 || name.length > MAX_NAME || holds(name, '/') || holds(name, 0))
        return 0;
    return !(name.data[0] == '.' && (name.length == 1 || (name.length == 2 && name.data[1] == '.')));
}

static int64_t
length_of(const uint8_t *reference)
{
    return (int64_t)reference[ID_BYTES] << 16 | reference[ID_BYTES + 1] << 8 | reference[ID_BYTES + 2];
}

static int
content_is_right(const row *found)
{
    span content = found->content;
    if (found->kind != 'f')
        return content.length == 0 && found->hash.length == 0;
    if (content.length == 0)
        return found->size == 0;
    if (content.length == ID_BYTES)
        return 0 < found->size && found->size <= MAX_CHUNK_BYTES;
    if (content.length % REFERENCE_BYTES || content.length > MAX_INLINE_CHUNKS * REFERENCE_BYTES)
        return 0;
    int64_t sum = 0;
    for (size_t at = 0; at < content.length; at += REFERENCE_BYTES)
        sum += length_of(content.data + at);
    return sum == found->size;
}

/* Floor division, as Python's. */
static int64_t
seconds_of(int64_t ns)
{
    return ns / SECOND - (ns % SECOND < 0);
}

static int
read_row(input *in, int64_t base_ns, row *found)
{
    uint8_t head;
    unsigned last = 0, key;
    if (!read_byte(in, &head) || head < 0x80 || head > 0x8F)
        return 0;
    memset(found, 0, sizeof *found);
    for (int fields = head - 0x80; fields; fields--) {
        if (!read_key(in, &key) || key <= last || !read_field(in, key, found))
            return 0;
        last = key;
    }
    if ((found->has & REQUIRED) != REQUIRED || !name_is_right(found->name))
        return 0;
    if (!sum_fits(found->mtime, base_ns) || !sum_fits(found->ctime, seconds_of(base_ns)))
        return 0;
    /* A directory has a tree of the right length, and nothing else has one. */
    if (found->kind == 'd' ? found->tree.length != ID_BYTES : (found->has & D) != 0)
        return 0;
    if (found->target.length > MAX_NAME || holds(found->target, 0))
        return 0;
    if (found->hash.length != 0 && found->hash.length != ID_BYTES)
        return 0;
    return content_is_right(found);
}

/* Steals nothing; -1 with an exception set where memory is short. */
static int
append_id(PyObject *list, const uint8_t *id)
{
    PyObject *made = PyBytes_FromStringAndSize((const char *)id, ID_BYTES);
    int failed = made == NULL ? -1 : PyList_Append(list, made);
    Py_XDECREF(made);
    return failed;
}

static int
append_chunk(PyObject *list, const uint8_t *id, int64_t length)
{
    PyObject *made = Py_BuildValue("(y#L)", (const char *)id, (Py_ssize_t)ID_BYTES, (long long)length);
    int failed = made == NULL ? -1 : PyList_Append(list, made);
    Py_XDECREF(made);
    return failed;
}

static int
append_row(const row *found, PyObject *chunks, PyObject *trees)
{
    if (found->kind == 'd')
        return append_id(trees, found->tree.data);
    if (found->content.length == ID_BYTES)
        return append_chunk(chunks, found->content.data, found->size);
    for (size_t at = 0; at < found->content.length; at += REFERENCE_BYTES)
        if (append_chunk(chunks, found->content.data + at, length_of(found->content.data + at)) < 0)
            return -1;
    return 0;
}

/* The base time stands behind the rows: they are skipped by reading them as if it were 0, then read again with it. */
static int
read_base(input in, uint64_t count, int64_t *base_ns)
{
    row found;
    span text;
    int64_t version;
    for (; count; count--)
        if (!read_row(&in, 0, &found))
            return 0;
    if (!read_text(&in, &text) || text.length != 1 || text.data[0] != 't' || !read_int(&in, base_ns))
        return 0;
    if (!read_text(&in, &text) || text.length != 1 || text.data[0] != 'v' || !read_int(&in, &version))
        return 0;
    return version == 1 && in.at == in.end;
}

/* 1 when the page is understood, 0 when it is not, -1 with an exception set. */
static int
read_page(input in, span *first, span *last, long *files, PyObject *chunks, PyObject *trees)
{
    uint8_t head;
    span text;
    uint64_t count;
    int64_t base_ns;
    row found;
    if (!read_byte(&in, &head) || head != 0x83 || !read_text(&in, &text) || text.length != 1 || text.data[0] != 'e')
        return 0;
    if (!read_array(&in, &count) || count > MAX_ENTRIES || !read_base(in, count, &base_ns))
        return 0;
    for (uint64_t i = 0; i < count; i++) {
        if (!read_row(&in, base_ns, &found) || !ascends(*last, found.name))
            return 0;
        if (i == 0)
            *first = found.name;
        *last = found.name;
        *files += found.kind == 'f';
        if (append_row(&found, chunks, trees) < 0)
            return -1;
    }
    return 1;
}

/* survey(page: bytes) -> tuple | None; see survey.py. */
static PyObject *
survey(PyObject *module, PyObject *page)
{
    (void)module;
    char *data;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(page, &data, &length) < 0)
        return NULL;
    if (length > MAX_BYTES)
        Py_RETURN_NONE;
    span first = {NULL, 0}, last = {NULL, 0};
    long files = 0;
    PyObject *chunks = PyList_New(0), *trees = PyList_New(0), *result = NULL;
    if (chunks != NULL && trees != NULL) {
        input in = {(const uint8_t *)data, (const uint8_t *)data + length, 0};
        int understood = read_page(in, &first, &last, &files, chunks, trees);
        if (understood > 0)
            result = Py_BuildValue(
                "(y#y#lOO)", first.length ? (const char *)first.data : "", (Py_ssize_t)first.length,
                last.length ? (const char *)last.data : "", (Py_ssize_t)last.length, files, chunks, trees);
        else if (understood == 0)
            result = Py_NewRef(Py_None);
    }
    Py_XDECREF(chunks);
    Py_XDECREF(trees);
    return result;
}

static PyObject *
id_or_none(span id)
{
    return id.length ? PyBytes_FromStringAndSize((const char *)id.data, (Py_ssize_t)id.length) : Py_NewRef(Py_None);
}

#define BYTES(of) ((of).length ? (const char *)(of).data : ""), (Py_ssize_t)(of).length

/* The fields of an entry in the order of rows.py; those that few entries have only where it has one. */
static PyObject *
make_row(const row *found, int64_t base_ns)
{
    long long mtime = found->mtime + base_ns, ctime = found->ctime + seconds_of(base_ns);
    char kind[2] = {(char)found->kind, 0};
    if (!found->tree.length && !found->hash.length && !found->target.length && !found->link_group && !found->page_size)
        return Py_BuildValue("(y#sLLLs#s#LLLy#)", BYTES(found->name), kind, (long long)found->mode,
                             (long long)found->uid, (long long)found->gid, BYTES(found->user), BYTES(found->group),
                             (long long)found->size, mtime, ctime, BYTES(found->content));
    PyObject *tree = id_or_none(found->tree);
    if (tree == NULL)
        return NULL;
    return Py_BuildValue("(y#sLLLs#s#LLLy#Ny#y#LL)", BYTES(found->name), kind, (long long)found->mode,
                         (long long)found->uid, (long long)found->gid, BYTES(found->user), BYTES(found->group),
                         (long long)found->size, mtime, ctime, BYTES(found->content), tree, BYTES(found->hash),
                         BYTES(found->target), (long long)found->link_group, (long long)found->page_size);
}

/* A list of rows; Py_None where something is not understood; NULL with an exception set. */
static PyObject *
make_rows(input in)
{
    uint8_t head;
    span text;
    uint64_t count;
    int64_t base_ns;
    row found;
    if (!read_byte(&in, &head) || head != 0x83 || !read_text(&in, &text) || text.length != 1 || text.data[0] != 'e')
        Py_RETURN_NONE;
    if (!read_array(&in, &count) || count > MAX_ENTRIES || !read_base(in, count, &base_ns))
        Py_RETURN_NONE;
    PyObject *rows = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; rows != NULL && i < count; i++) {
        /* Extended attributes are left to Python. */
        int understood = read_row(&in, base_ns, &found) && !(found.has & X);
        PyObject *made = understood ? make_row(&found, base_ns) : Py_NewRef(Py_None);
        if (made == NULL || !understood) {
            Py_DECREF(rows);
            return made;
        }
        PyList_SET_ITEM(rows, (Py_ssize_t)i, made);
    }
    return rows;
}

/* rows(page: bytes) -> list | None; see rows.py. */
static PyObject *
rows(PyObject *module, PyObject *page)
{
    (void)module;
    char *data;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(page, &data, &length) < 0)
        return NULL;
    if (length > MAX_BYTES)
        Py_RETURN_NONE;
    input in = {(const uint8_t *)data, (const uint8_t *)data + length, 0};
    return make_rows(in);
}

static PyMethodDef methods[] = {
    {"rows", rows, METH_O, "The entries of a directory manifest, or None."},
    {"survey", survey, METH_O, "What a directory manifest refers to, or None."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_survey",
    .m_doc = "What directory manifests refer to.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__survey(void)
{
    return PyModuleDef_Init(&definition);
}
