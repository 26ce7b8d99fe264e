/* LANES nodes of BLAKE3 trees side by side, one in each lane of the vectors. Part of _blake3.c, which includes this
 * file once for each width; there LANES, TARGET (for which processor) and NAMED (a suffix) are defined.
 */

#define INLINE TARGET static inline __attribute__((always_inline))
#define words NAMED(words)

typedef uint32_t words __attribute__((vector_size(4 * LANES)));

#define ROTATED(x, count) (((x) >> (count)) | ((x) << (32 - (count))))

#if LANES == 16
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#endif

/* Rows become columns: each step weaves the first half of the rows with the second. */
INLINE void
NAMED(turn)(words rows[LANES])
{
    words woven[LANES];
    for (int step = 1; step < LANES; step *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            woven[2 * i] = LOW(rows[i], rows[i + LANES / 2]);
            woven[2 * i + 1] = HIGH(rows[i], rows[i + LANES / 2]);
        }
        memcpy(rows, woven, sizeof woven);
    }
}

/* message[i] holds word i of the block of each lane. */
INLINE void
NAMED(load)(const uint8_t *const blocks[LANES], words message[BLOCK_WORDS])
{
    for (int part = 0; part < BLOCK_WORDS; part += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            memcpy(&message[part + lane], blocks[lane] + 4 * part, sizeof(words));
        NAMED(turn)(message + part);
    }
}

#define MIX(a, b, c, d, x, y)            \
    do {                                 \
        v[a] += v[b] + message[x];       \
        v[d] = ROTATED(v[d] ^ v[a], 16); \
        v[c] += v[d];                    \
        v[b] = ROTATED(v[b] ^ v[c], 12); \
        v[a] += v[b] + message[y];       \
        v[d] = ROTATED(v[d] ^ v[a], 8);  \
        v[c] += v[d];                    \
        v[b] = ROTATED(v[b] ^ v[c], 7);  \
    } while (0)

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15) \
    do {                                                                            \
        MIX(0, 4, 8, 12, m0, m1);                                                   \
        MIX(1, 5, 9, 13, m2, m3);                                                   \
        MIX(2, 6, 10, 14, m4, m5);                                                  \
        MIX(3, 7, 11, 15, m6, m7);                                                  \
        MIX(0, 5, 10, 15, m8, m9);                                                  \
        MIX(1, 6, 11, 12, m10, m11);                                                \
        MIX(2, 7, 8, 13, m12, m13);                                                 \
        MIX(3, 4, 9, 14, m14, m15);                                                 \
    } while (0)

/* The compression function; `value` becomes the next chaining value of each lane. */
INLINE void
NAMED(compress)(words value[VALUE_WORDS], const words message[BLOCK_WORDS], words counter, words length, words flags)
{
    const words zero = {0};
    words v[16] = {
        value[0], value[1], value[2], value[3], value[4], value[5], value[6], value[7],
        zero + INITIAL[0], zero + INITIAL[1], zero + INITIAL[2], zero + INITIAL[3], counter, zero, length, flags,
    };
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);
    ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);
    ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);
    ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);
    ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);
    ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);
    for (int i = 0; i < VALUE_WORDS; i++)
        value[i] = v[i] ^ v[i + VALUE_WORDS];
}

/* One block of every node: marks, lengths and what has ended differ from lane to lane. */
INLINE void
NAMED(hash_any_block)(const node *nodes, size_t count, size_t block, words counter, words value[VALUE_WORDS])
{
    static const uint8_t nothing[BLOCK_BYTES];
    uint8_t padded[LANES][BLOCK_BYTES];
    const uint8_t *blocks[LANES];
    uint32_t lengths[LANES] = {0}, marks[LANES] = {0}, on[LANES] = {0};
    words before[VALUE_WORDS], message[BLOCK_WORDS], length, flags, active;
    for (size_t lane = 0; lane < LANES; lane++) {
        blocks[lane] = nothing;
        if (lane < count && block < blocks_of(&nodes[lane])) {
            blocks[lane] = block_of(&nodes[lane], block, padded[lane], &lengths[lane], &marks[lane]);
            on[lane] = UINT32_MAX;
        }
    }
    memcpy(&length, lengths, sizeof length);
    memcpy(&flags, marks, sizeof flags);
    memcpy(&active, on, sizeof active);
    memcpy(before, value, sizeof before);
    NAMED(load)(blocks, message);
    NAMED(compress)(value, message, counter, length, flags);
    for (int i = 0; i < VALUE_WORDS; i++)
        value[i] = (value[i] & active) | (before[i] & ~active);
}

/* The chaining values of 1 to LANES nodes. All are read before the first is written. */
TARGET static void
NAMED(hash_nodes)(const uint32_t key[VALUE_WORDS], const node *nodes, size_t count)
{
    const words zero = {0};
    const uint8_t *blocks[LANES];
    words value[LANES], message[BLOCK_WORDS], counter = {0};
    size_t most = 0, fewest = SIZE_MAX, block = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        const node *one = &nodes[lane < count ? lane : 0];
        size_t length = blocks_of(one);
        most = length > most ? length : most;
        fewest = length < fewest ? length : fewest;
        counter[lane] = one->counter;
        blocks[lane] = one->data;
    }
    for (int i = 0; i < LANES; i++)
        value[i] = zero + (i < VALUE_WORDS ? key[i] : 0);
    /* Only leaves have more than one block, and the first flags of one are those of all. */
    for (; block + 1 < fewest; block++) {
        NAMED(load)(blocks, message);
        NAMED(compress)(value, message, counter, zero + BLOCK_BYTES,
                        zero + (nodes[0].all | (block == 0 ? nodes[0].first : 0)));
        for (int lane = 0; lane < LANES; lane++)
            blocks[lane] += BLOCK_BYTES;
    }
    for (; block < most; block++)
        NAMED(hash_any_block)(nodes, count, block, counter, value);
    NAMED(turn)(value);
    for (size_t lane = 0; lane < count; lane++)
        memcpy(nodes[lane].value, &value[lane], VALUE_BYTES);
}

#undef INLINE
#undef words
#undef ROTATED
#undef LOW
#undef HIGH
#undef MIX
#undef ROUND
