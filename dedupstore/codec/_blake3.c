/* BLAKE3 of many pieces at once, with one release of the GIL.
 *
 * A tree of BLAKE3 has leaves of 1 KiB, and a wide processor hashes 8 or 16 nodes side by side. A small file has fewer:
 * here the nodes of all pieces share the lanes. hashing.py holds the same function in Python, by the blake3 library: it
 * is the specification, and serves where this file could not be compiled or the processor has no such vectors.
 *
 * The algorithm: https://github.com/BLAKE3-team/BLAKE3-specs/blob/master/blake3.pdf, chapter 2.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

enum { BLOCK_BYTES = 64, BLOCK_WORDS = 16, VALUE_BYTES = 32, VALUE_WORDS = 8, LEAF_BYTES = 1024, MOST_LANES = 16 };
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8, KEYED_HASH = 16 };

#define LEAST_WITHOUT_GIL (32 << 10)        /* below, winning the GIL back takes longer than the hashing */
#define MOST_BYTES ((size_t)1 << 40)        /* of all pieces of a call; keeps the counters of leaves below 2**32 */

static const uint32_t INITIAL[VALUE_WORDS] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};

/* A leaf, or a parent of two chaining values, which lie side by side in `data`. */
typedef struct {
    const uint8_t *data;
    uint8_t *value;                 /* where its chaining value goes */
    uint32_t length, counter;       /* bytes; number of a leaf in its piece, 0 for a parent */
    uint32_t first, last, all;      /* flags of its first block, of its last, of each */
} node;

static inline size_t
blocks_of(const node *one)
{
    return one->length == 0 ? 1 : (one->length + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

/* A block of a node with its length and its flags; one that is not full is padded in `padded`. */
static inline const uint8_t *
block_of(const node *one, size_t block, uint8_t padded[BLOCK_BYTES], uint32_t *length, uint32_t *flags)
{
    int last = block + 1 == blocks_of(one);
    const uint8_t *data = one->data + block * BLOCK_BYTES;
    *length = last ? one->length - (uint32_t)block * BLOCK_BYTES : BLOCK_BYTES;
    *flags = one->all | (block == 0 ? one->first : 0) | (last ? one->last : 0);
    if (*length == BLOCK_BYTES)
        return data;
    memset(padded, 0, BLOCK_BYTES);
    if (*length)
        memcpy(padded, data, *length);
    return padded;
}

#if defined(__x86_64__) && defined(__GNUC__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAVE_VECTORS
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512vl")))
#define NAMED(name) name##_16
#include "_blake3_lanes.h"
#undef LANES
#undef TARGET
#undef NAMED
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#define NAMED(name) name##_8
#include "_blake3_lanes.h"
#endif
#endif

typedef struct {
    const char *name;
    size_t lanes;
    void (*hash_nodes)(const uint32_t key[VALUE_WORDS], const node *nodes, size_t count);
} hash_path;

/* Those that this processor has, best first; the last has no name. */
static hash_path paths[3];

static void
find_paths(void)
{
    hash_path *next = paths;
#ifdef HAVE_VECTORS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        *next++ = (hash_path){"avx512", 16, hash_nodes_16};
    if (__builtin_cpu_supports("avx2"))
        *next++ = (hash_path){"avx2", 8, hash_nodes_8};
#endif
    *next = (hash_path){NULL, 0, NULL};
}

/* Nodes that wait until there is one for every lane. */
typedef struct {
    const hash_path *path;
    uint32_t key[VALUE_WORDS], keyed;       /* KEYED_HASH or 0 */
    node nodes[MOST_LANES];
    size_t count;
} queue;

static void
flush(queue *waiting)
{
    if (waiting->count)
        waiting->path->hash_nodes(waiting->key, waiting->nodes, waiting->count);
    waiting->count = 0;
}

static void
append(queue *waiting, node one)
{
    waiting->nodes[waiting->count++] = one;
    if (waiting->count == waiting->path->lanes)
        flush(waiting);
}

typedef struct {
    const uint8_t *data;
    size_t length, nodes;           /* bytes; how many chaining values of it there are, 1 in the end */
    uint8_t *values;
} piece;

/* Full leaves first, of all pieces, then what is left at their ends: nodes of one length keep all lanes busy. */
static void
hash_leaves(queue *waiting, const piece *pieces, Py_ssize_t count, int full)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const piece *one = &pieces[i];
        size_t whole = one->length / LEAF_BYTES;
        uint32_t length = full ? LEAF_BYTES : (uint32_t)(one->length % LEAF_BYTES);
        uint32_t last = one->nodes == 1 ? CHUNK_END | ROOT : CHUNK_END;
        for (size_t leaf = full ? 0 : whole; leaf < (full ? whole : one->nodes); leaf++)
            append(waiting, (node){one->data + leaf * LEAF_BYTES, one->values + leaf * VALUE_BYTES, length,
                                   (uint32_t)leaf, CHUNK_START, last, waiting->keyed});
    }
    flush(waiting);
}

/* One level of all trees; whether there is another. Pairs of neighbours have a parent, and who has no neighbour goes up
 * as it is: that gives the tree whose left side is as large a power of two as there can be. */
static int
hash_parents(queue *waiting, piece *pieces, Py_ssize_t count)
{
    int more = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const piece *one = &pieces[i];
        uint32_t root = one->nodes == 2 ? ROOT : 0;
        /* A parent is written where no child is waiting any more: children of number 2n are read before n is written. */
        for (size_t pair = 0; pair < one->nodes / 2; pair++)
            append(waiting, (node){one->values + 2 * pair * VALUE_BYTES, one->values + pair * VALUE_BYTES, BLOCK_BYTES,
                                   0, PARENT, root, waiting->keyed});
    }
    flush(waiting);
    for (Py_ssize_t i = 0; i < count; i++) {
        piece *one = &pieces[i];
        if (one->nodes % 2 && one->nodes > 1)
            memcpy(one->values + one->nodes / 2 * VALUE_BYTES, one->values + (one->nodes - 1) * VALUE_BYTES,
                   VALUE_BYTES);
        one->nodes -= one->nodes / 2;
        more |= one->nodes > 1;
    }
    return more;
}

static void
hash_pieces(queue *waiting, piece *pieces, Py_ssize_t count, uint8_t *values)
{
    int more = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        pieces[i].nodes = pieces[i].length ? (pieces[i].length + LEAF_BYTES - 1) / LEAF_BYTES : 1;
        pieces[i].values = values;
        values += pieces[i].nodes * VALUE_BYTES;
        more |= pieces[i].nodes > 1;
    }
    hash_leaves(waiting, pieces, count, 1);
    hash_leaves(waiting, pieces, count, 0);
    while (more)
        more = hash_parents(waiting, pieces, count);
}

static const hash_path *
find_path(const char *name)
{
    for (const hash_path *path = paths; path->name != NULL; path++)
        if (name == NULL || strcmp(path->name, name) == 0)
            return path;
    PyErr_SetString(PyExc_ValueError, "no such path on this processor");
    return NULL;
}

/* Hashes `count` pieces of `bytes` in all; a list of their digests. */
static PyObject *
digests_of(queue *waiting, piece *pieces, Py_ssize_t count, size_t bytes)
{
    uint8_t *values = bytes > MOST_BYTES ? NULL : PyMem_Malloc((bytes / LEAF_BYTES + (size_t)count + 1) * VALUE_BYTES);
    if (values == NULL)
        return PyErr_NoMemory();
    if (bytes < LEAST_WITHOUT_GIL)
        hash_pieces(waiting, pieces, count, values);
    else {
        Py_BEGIN_ALLOW_THREADS
        hash_pieces(waiting, pieces, count, values);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *digest = PyBytes_FromStringAndSize((const char *)pieces[i].values, VALUE_BYTES);
        if (digest == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, digest);
    }
    PyMem_Free(values);
    return result;
}

/* Digests of what a list or tuple holds: its buffers are kept, so that it may change meanwhile. */
static PyObject *
digests_of_all(queue *waiting, PyObject *list)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list), ready = 0;
    size_t bytes = 0;
    PyObject *result = NULL;
    piece *pieces = PyMem_New(piece, (size_t)count + 1);
    Py_buffer *buffers = PyMem_New(Py_buffer, (size_t)count + 1);
    if (pieces == NULL || buffers == NULL)
        PyErr_NoMemory();
    else {
        /* The list is asked for its length every time: the code of a strange object may have made it shorter. */
        for (; ready < count && ready < PySequence_Fast_GET_SIZE(list); ready++) {
            if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(list, ready), &buffers[ready], PyBUF_SIMPLE) < 0)
                break;
            pieces[ready].data = buffers[ready].buf;
            pieces[ready].length = (size_t)buffers[ready].len;
            bytes += pieces[ready].length;
        }
        if (!PyErr_Occurred())
            result = digests_of(waiting, pieces, ready, bytes);
    }
    while (ready > 0)
        PyBuffer_Release(&buffers[--ready]);
    PyMem_Free(buffers);
    PyMem_Free(pieces);
    return result;
}

/* digests(key: bytes | None, pieces: Sequence, path: str | None = None) -> list[bytes]; see hashing.py. */
static PyObject *
digests(PyObject *module, PyObject *args)
{
    (void)module;
    const char *key, *name = NULL;
    Py_ssize_t length;
    PyObject *pieces;
    if (!PyArg_ParseTuple(args, "z#O|z:digests", &key, &length, &pieces, &name))
        return NULL;
    queue waiting = {.path = find_path(name), .count = 0};
    if (waiting.path == NULL)
        return NULL;
    if (key != NULL && length != VALUE_BYTES)
        return PyErr_Format(PyExc_ValueError, "a BLAKE3 key has %d bytes, not %zd", VALUE_BYTES, length);
    /* Little-endian words, as on every processor that has a path. */
    memcpy(waiting.key, key != NULL ? (const void *)key : (const void *)INITIAL, VALUE_BYTES);
    waiting.keyed = key != NULL ? KEYED_HASH : 0;
    pieces = PySequence_Fast(pieces, "expected a list of pieces");
    PyObject *result = pieces == NULL ? NULL : digests_of_all(&waiting, pieces);
    Py_XDECREF(pieces);
    return result;
}

static PyMethodDef methods[] = {
    {"digests", digests, METH_VARARGS,
     PyDoc_STR("digests(key, pieces, path=None, /)\n--\n\nhashing.py says what.")},
    {NULL},
};

static int
execute(PyObject *module)
{
    find_paths();
    PyObject *names = PyList_New(0);
    for (const hash_path *path = paths; names != NULL && path->name != NULL; path++) {
        PyObject *name = PyUnicode_FromString(path->name);
        if (name == NULL || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    PyObject *all = names == NULL ? NULL : PyList_AsTuple(names);
    int failed = all == NULL || PyModule_AddObjectRef(module, "PATHS", all) < 0;
    Py_XDECREF(names);
    Py_XDECREF(all);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_blake3",
    .m_doc = PyDoc_STR("BLAKE3 of many pieces at once."),
    .m_slots = slots,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__blake3(void)
{
    return PyModuleDef_Init(&module);
}
