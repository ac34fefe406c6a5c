/* Hashing over arrays of rows of fixed size, several rows at a time, one in each lane of a vector register.
 *
 * No parsing: the callers hand over arrays, and everything here follows from their shapes, which are checked before
 * the first row. SHA-1, SHA-256, SHA-384 and SHA-512 as in FIPS 180-4. The kernels are compiled once for each width by
 * including this file in itself; which of them runs is chosen at run time.
 *
 * Longer than a module otherwise is here: all that is not Python stays in one file, to be read from top to bottom, and
 * one translation unit needs no symbols that others could see.
 */

#ifndef LANES_KERNEL

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#if !defined(__GNUC__)
#error "needs the vector types of GCC or Clang"
#endif
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs a little-endian machine"
#endif

enum { SHA1, SHA256, SHA384, SHA512, ALGORITHMS };

static const size_t DIGEST[ALGORITHMS] = {20, 32, 48, 64};

/* One or two places from which the lanes read; a row is followed for as long as it lasts. */
struct job {
    int algorithm;
    Py_ssize_t count;
    uint8_t *states;        /* rows of the digest's size, one after the other; outputs of hash_rows */
    const int64_t *where;   /* which row of states each row of data is for; NULL: the same number */
    const uint8_t *data;    /* rows of data */
    Py_ssize_t stride;      /* from one row of data to the next, in bytes */
    size_t width;           /* of a row of data, in bytes */
    const uint8_t *prefix;  /* hash_rows: stands before each row */
    size_t prefix_width;
};

static const uint32_t H1[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
static const uint32_t H256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint64_t H384[8] = {0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939,
                                 0x67332667ffc00b31, 0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4};
static const uint64_t H512[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                 0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
/* FIPS 180-4, 4.2.3; the constants of SHA-256 (4.2.2) are the upper halves of the first 64. */
static const uint64_t K512[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538,
    0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe,
    0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2, 0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
    0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5, 0x983e5152ee66dfab,
    0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
    0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df, 0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
    0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8, 0x19a4c116b8d2d0c8, 0x1e376c085141ab53,
    0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c,
    0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6,
    0x113f9804bef90dae, 0x1b710b35131c471b, 0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

/* Constant plus message schedule of the padding block behind 64 (128) bytes: filled when the module is loaded. */
static uint32_t PADDING256[64];
static uint64_t PADDING512[80];

#define ROTATE32(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define ROTATE64(x, n) (((x) >> (n)) | ((x) << (64 - (n))))

static void fill_padding(void)
{
    uint32_t w[64] = {0x80000000};
    uint64_t v[80] = {0x8000000000000000};
    w[15] = 512;
    v[15] = 1024;
    for (int t = 16; t < 64; t++)
        w[t] = w[t - 16] + w[t - 7] + (ROTATE32(w[t - 15], 7) ^ ROTATE32(w[t - 15], 18) ^ (w[t - 15] >> 3)) +
               (ROTATE32(w[t - 2], 17) ^ ROTATE32(w[t - 2], 19) ^ (w[t - 2] >> 10));
    for (int t = 16; t < 80; t++)
        v[t] = v[t - 16] + v[t - 7] + (ROTATE64(v[t - 15], 1) ^ ROTATE64(v[t - 15], 8) ^ (v[t - 15] >> 7)) +
               (ROTATE64(v[t - 2], 19) ^ ROTATE64(v[t - 2], 61) ^ (v[t - 2] >> 6));
    for (int t = 0; t < 64; t++)
        PADDING256[t] = w[t] + (uint32_t)(K512[t] >> 32);
    for (int t = 0; t < 80; t++)
        PADDING512[t] = v[t] + K512[t];
}

#define PASTE(a, b) a##b
#define NAMED(a, b) PASTE(a, b)
#define INLINE static inline __attribute__((always_inline)) TARGET

#if !defined(__has_builtin)
#define __has_builtin(name) 0
#endif
typedef uint64_t QUARTER __attribute__((vector_size(16)));
typedef uint64_t HALF __attribute__((vector_size(32)));

#define LANES_KERNEL
#define KERNEL(name) NAMED(name, _128)
#define BYTES 16
#define TARGET
#include "_lanes.c"

#if defined(__x86_64__)
#define KERNEL(name) NAMED(name, _256)
#define BYTES 32
#define TARGET __attribute__((target("avx2")))
#include "_lanes.c"

#define KERNEL(name) NAMED(name, _512)
#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#include "_lanes.c"
#endif
#undef LANES_KERNEL

typedef void (*kernel)(const struct job *);

struct engine {
    const char *name;
    kernel extend[ALGORITHMS];
    kernel hash_rows[ALGORITHMS];
};

#define ENGINE(name, bits)                                                                                         \
    {                                                                                                              \
        name, {extend_1_##bits, extend_256_##bits, extend_384_##bits, extend_512_##bits},                          \
            {hash_1_##bits, hash_256_##bits, hash_384_##bits, hash_512_##bits}                                     \
    }

/* The widest first. */
static const struct engine ENGINES[] = {
#if defined(__x86_64__)
    ENGINE("avx512", 512),
    ENGINE("avx2", 256),
#endif
#if defined(__aarch64__)
    ENGINE("neon", 128),
#else
    ENGINE("baseline", 128),
#endif
};
#define ENGINE_COUNT ((int)(sizeof ENGINES / sizeof *ENGINES))

#if defined(__x86_64__)
/* CPUID leaf 7 has these features in EBX, and the system keeps these registers (XCR0): Intel SDM, volume 1, 14.3 and 15.2.
 * Asked here, because not every compiler's runtime fills in what __builtin_cpu_supports reads. */
static int has(unsigned features, unsigned registers)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & features) == features;
}
#endif

static int supported(const struct engine *engine)
{
#if defined(__x86_64__)
    if (strcmp(engine->name, "avx512") == 0)
        return has(1u << 16 | 1u << 30 | 1u << 31, 0xe6); /* F, BW, VL; XMM, YMM, masks, both parts of ZMM */
    if (strcmp(engine->name, "avx2") == 0)
        return has(1u << 5, 0x06);
#endif
    return engine != NULL;
}

/* Asked once, when the module is loaded: in a virtual machine the question takes as long as hundreds of extends. */
static int SUPPORTED[ENGINE_COUNT];

static void fill_supported(void)
{
    for (int i = 0; i < ENGINE_COUNT; i++)
        SUPPORTED[i] = supported(&ENGINES[i]);
}

static PyObject *engines(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < ENGINE_COUNT; i++) {
        PyObject *name = SUPPORTED[i] ? PyUnicode_FromString(ENGINES[i].name) : NULL;
        if (name != NULL && PyList_Append(names, name) != 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return PyErr_Occurred() ? (Py_XDECREF(names), NULL) : names;
}

static const struct engine *choose(const char *name)
{
    for (int i = 0; i < ENGINE_COUNT; i++)
        if (SUPPORTED[i] && strcmp(ENGINES[i].name, name) == 0)
            return &ENGINES[i];
    PyErr_Format(PyExc_ValueError, "this machine has no lanes of kind %s", name);
    return NULL;
}

/* An array of bytes of two dimensions whose rows each lie together; negative strides are refused. */
static int is_rows(const Py_buffer *array, size_t width)
{
    return array->ndim == 2 && array->itemsize == 1 && array->shape[1] >= 0 &&
           (width == 0 || (size_t)array->shape[1] == width) && (array->shape[1] == 0 || array->strides[1] == 1) &&
           (array->shape[0] <= 1 || array->strides[0] >= 0) && array->suboffsets == NULL;
}

static int is_packed(const Py_buffer *array)
{
    return array->shape[0] <= 1 || array->strides[0] == array->shape[1];
}

static int check_places(const Py_buffer *where, const Py_buffer *states, Py_ssize_t count)
{
    if (where->ndim != 1 || where->itemsize != 8 || where->shape[0] != count ||
        (count > 1 && where->strides[0] != 8))
        return 0;
    const int64_t *place = where->buf;
    for (Py_ssize_t i = 0; i < count; i++)
        if (place[i] < 0 || place[i] >= states->shape[0])
            return 0;
    return 1;
}

static PyObject *extend(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name;
    int algorithm;
    PyObject *states_object, *data_object, *where_object;
    Py_buffer states, data, where = {0};
    if (!PyArg_ParseTuple(args, "siOOO", &name, &algorithm, &states_object, &data_object, &where_object))
        return NULL;
    const struct engine *engine = choose(name);
    if (engine == NULL)
        return NULL;
    if (algorithm < 0 || algorithm >= ALGORITHMS)
        return PyErr_Format(PyExc_ValueError, "no such algorithm");
    if (PyObject_GetBuffer(states_object, &states, PyBUF_STRIDES | PyBUF_WRITABLE) != 0)
        return NULL;
    if (PyObject_GetBuffer(data_object, &data, PyBUF_STRIDES) != 0) {
        PyBuffer_Release(&states);
        return NULL;
    }
    int bad = 0;
    if (where_object != Py_None)
        bad = PyObject_GetBuffer(where_object, &where, PyBUF_STRIDES) != 0;
    if (!bad) {
        size_t size = DIGEST[algorithm];
        bad = !is_rows(&states, size) || !is_packed(&states) || !is_rows(&data, size);
        bad = bad || (where.obj != NULL ? !check_places(&where, &states, data.shape[0])
                                        : states.shape[0] != data.shape[0]);
        if (bad)
            PyErr_SetString(PyExc_ValueError, "arrays that do not fit together");
    }
    if (!bad && data.shape[0] > 0) {
        struct job job = {.algorithm = algorithm, .count = data.shape[0], .states = states.buf, .data = data.buf,
                          .stride = data.strides[0], .width = DIGEST[algorithm],
                          .where = where.obj != NULL ? where.buf : NULL};
        Py_BEGIN_ALLOW_THREADS
        engine->extend[algorithm](&job);
        Py_END_ALLOW_THREADS
    }
    if (where.obj != NULL)
        PyBuffer_Release(&where);
    PyBuffer_Release(&data);
    PyBuffer_Release(&states);
    return bad ? NULL : Py_NewRef(Py_None);
}

static PyObject *hash_rows(PyObject *module, PyObject *args)
{
    (void)module;
    const char *name, *prefix;
    Py_ssize_t prefix_width;
    int algorithm;
    PyObject *out_object, *data_object;
    Py_buffer out, data;
    if (!PyArg_ParseTuple(args, "siOOy#", &name, &algorithm, &out_object, &data_object, &prefix, &prefix_width))
        return NULL;
    const struct engine *engine = choose(name);
    if (engine == NULL)
        return NULL;
    if (algorithm < 0 || algorithm >= ALGORITHMS)
        return PyErr_Format(PyExc_ValueError, "no such algorithm");
    if (PyObject_GetBuffer(out_object, &out, PyBUF_STRIDES | PyBUF_WRITABLE) != 0)
        return NULL;
    if (PyObject_GetBuffer(data_object, &data, PyBUF_STRIDES) != 0) {
        PyBuffer_Release(&out);
        return NULL;
    }
    int bad = !is_rows(&out, DIGEST[algorithm]) || !is_packed(&out) || !is_rows(&data, 0) ||
              out.shape[0] != data.shape[0];
    if (bad)
        PyErr_SetString(PyExc_ValueError, "arrays that do not fit together");
    else if (data.shape[0] > 0) {
        struct job job = {.algorithm = algorithm, .count = data.shape[0], .states = out.buf, .data = data.buf,
                          .stride = data.strides[0], .width = (size_t)data.shape[1],
                          .prefix = (const uint8_t *)prefix, .prefix_width = (size_t)prefix_width};
        Py_BEGIN_ALLOW_THREADS
        engine->hash_rows[algorithm](&job);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    return bad ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef METHODS[] = {
    {"engines", engines, METH_NOARGS, "The kinds of lanes that this machine has, the widest first."},
    {"extend", extend, METH_VARARGS, "extend(engine, algorithm, states, digests, where): in place."},
    {"hash_rows", hash_rows, METH_VARARGS, "hash_rows(engine, algorithm, out, rows, prefix): digests into out."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_lanes", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__lanes(void)
{
    fill_padding();
    fill_supported();
    return PyModule_Create(&MODULE);
}

#else /* LANES_KERNEL: one width; everything below is compiled once for each */

#define N32 (BYTES / 4)
#define N64 (BYTES / 8)
#define V32 KERNEL(v32)
#define V64 KERNEL(v64)

typedef uint32_t V32 __attribute__((vector_size(BYTES)));
typedef uint64_t V64 __attribute__((vector_size(BYTES)));

#if __has_builtin(__builtin_shufflevector)
/* Sixteen bytes of every lane at a time, with the bytes of BYTES / 16 lanes side by side in a vector: what remains is
 * to transpose within each sixteen bytes. */
typedef uint8_t KERNEL(v8) __attribute__((vector_size(BYTES)));
#if BYTES == 16
#define LOW32 0, 4, 1, 5
#define HIGH32 2, 6, 3, 7
#define LOW64 0, 2
#define HIGH64 1, 3
#elif BYTES == 32
#define LOW32 0, 8, 1, 9, 4, 12, 5, 13
#define HIGH32 2, 10, 3, 11, 6, 14, 7, 15
#define LOW64 0, 4, 2, 6
#define HIGH64 1, 5, 3, 7
#else
#define LOW32 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define HIGH32 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define LOW64 0, 8, 2, 10, 4, 12, 6, 14
#define HIGH64 1, 9, 3, 11, 5, 13, 7, 15
#endif

/* Big-endian words to numbers and back. */
#if BYTES == 16 && defined(__x86_64__) /* no instruction that shuffles bytes */
INLINE V32 KERNEL(swap32)(V32 x)
{
    return (ROTATE32(x, 24) & 0x00ff00ff) | (ROTATE32(x, 8) & 0xff00ff00);
}

INLINE V64 KERNEL(swap64)(V64 x)
{
    V64 y = (V64)KERNEL(swap32)((V32)x);
    return ROTATE64(y, 32);
}
#else
#define FOUR(i) (i) + 3, (i) + 2, (i) + 1, (i)
#define EIGHT(i) FOUR((i) + 4), FOUR(i)
#if BYTES == 16
#define ALL32 FOUR(0), FOUR(4), FOUR(8), FOUR(12)
#define ALL64 EIGHT(0), EIGHT(8)
#elif BYTES == 32
#define ALL32 FOUR(0), FOUR(4), FOUR(8), FOUR(12), FOUR(16), FOUR(20), FOUR(24), FOUR(28)
#define ALL64 EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24)
#else
#define ALL32                                                                                                      \
    FOUR(0), FOUR(4), FOUR(8), FOUR(12), FOUR(16), FOUR(20), FOUR(24), FOUR(28), FOUR(32), FOUR(36), FOUR(40),     \
        FOUR(44), FOUR(48), FOUR(52), FOUR(56), FOUR(60)
#define ALL64 EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48), EIGHT(56)
#endif
INLINE V32 KERNEL(swap32)(V32 x)
{
    return (V32)__builtin_shufflevector((KERNEL(v8))x, (KERNEL(v8))x, ALL32);
}

INLINE V64 KERNEL(swap64)(V64 x)
{
    return (V64)__builtin_shufflevector((KERNEL(v8))x, (KERNEL(v8))x, ALL64);
}
#undef FOUR
#undef EIGHT
#undef ALL32
#undef ALL64
#endif

/* Sixteen bytes at `at` of each of the lanes first, first + step, and so on. */
INLINE V32 KERNEL(put_together)(const uint8_t *const *from, int first, int step, int at)
{
    QUARTER q[BYTES / 16];
    for (int i = 0; i < BYTES / 16; i++)
        memcpy(&q[i], from[first + step * i] + at, 16);
#if BYTES == 16
    return (V32)q[0];
#elif BYTES == 32
    return (V32)__builtin_shufflevector(q[0], q[1], 0, 1, 2, 3);
#else
    HALF low = __builtin_shufflevector(q[0], q[1], 0, 1, 2, 3), high = __builtin_shufflevector(q[2], q[3], 0, 1, 2, 3);
    return (V32)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}

/* Those of the lanes that are used. */
INLINE void KERNEL(take_apart)(V32 x, uint8_t *const *to, int first, int step, int at, int lanes)
{
    V64 y = (V64)x;
    QUARTER q[BYTES / 16];
#if BYTES == 16
    q[0] = y;
#elif BYTES == 32
    q[0] = __builtin_shufflevector(y, y, 0, 1), q[1] = __builtin_shufflevector(y, y, 2, 3);
#else
    q[0] = __builtin_shufflevector(y, y, 0, 1), q[1] = __builtin_shufflevector(y, y, 2, 3);
    q[2] = __builtin_shufflevector(y, y, 4, 5), q[3] = __builtin_shufflevector(y, y, 6, 7);
#endif
    for (int i = 0; i < BYTES / 16; i++)
        if (first + step * i < lanes)
            memcpy(to[first + step * i] + at, &q[i], 16);
}

INLINE void KERNEL(transpose32)(V32 *r)
{
    V32 ab = __builtin_shufflevector(r[0], r[1], LOW32), cd = __builtin_shufflevector(r[2], r[3], LOW32);
    V32 ab2 = __builtin_shufflevector(r[0], r[1], HIGH32), cd2 = __builtin_shufflevector(r[2], r[3], HIGH32);
    r[0] = (V32)__builtin_shufflevector((V64)ab, (V64)cd, LOW64);
    r[1] = (V32)__builtin_shufflevector((V64)ab, (V64)cd, HIGH64);
    r[2] = (V32)__builtin_shufflevector((V64)ab2, (V64)cd2, LOW64);
    r[3] = (V32)__builtin_shufflevector((V64)ab2, (V64)cd2, HIGH64);
}

/* Word number i of each lane's bytes into w[i]; four or more words. The last four overlap others where need be. */
INLINE void KERNEL(load32)(V32 *w, const uint8_t *const *from, int words)
{
    for (int done = 0; done < words; done += 4) {
        int i = done + 4 <= words ? done : words - 4;
        V32 r[4];
        for (int j = 0; j < 4; j++)
            r[j] = KERNEL(put_together)(from, j, 4, 4 * i);
        KERNEL(transpose32)(r);
        for (int j = 0; j < 4; j++)
            w[i + j] = KERNEL(swap32)(r[j]);
    }
}

/* The same for an even number of words of eight bytes. */
INLINE void KERNEL(load64)(V64 *w, const uint8_t *const *from, int words)
{
    for (int i = 0; i < words; i += 2) {
        V64 a = (V64)KERNEL(put_together)(from, 0, 2, 8 * i), b = (V64)KERNEL(put_together)(from, 1, 2, 8 * i);
        w[i] = KERNEL(swap64)(__builtin_shufflevector(a, b, LOW64));
        w[i + 1] = KERNEL(swap64)(__builtin_shufflevector(a, b, HIGH64));
    }
}

INLINE void KERNEL(store32)(const V32 *w, uint8_t *const *to, int words, int lanes)
{
    for (int done = 0; done < words; done += 4) {
        int i = done + 4 <= words ? done : words - 4;
        V32 r[4];
        for (int j = 0; j < 4; j++)
            r[j] = KERNEL(swap32)(w[i + j]);
        KERNEL(transpose32)(r);
        for (int j = 0; j < 4; j++)
            KERNEL(take_apart)(r[j], to, j, 4, 4 * i, lanes);
    }
}

INLINE void KERNEL(store64)(const V64 *w, uint8_t *const *to, int words, int lanes)
{
    for (int i = 0; i < words; i += 2) {
        V64 a = KERNEL(swap64)(w[i]), b = KERNEL(swap64)(w[i + 1]);
        KERNEL(take_apart)((V32)__builtin_shufflevector(a, b, LOW64), to, 0, 2, 8 * i, lanes);
        KERNEL(take_apart)((V32)__builtin_shufflevector(a, b, HIGH64), to, 1, 2, 8 * i, lanes);
    }
}
#undef LOW32
#undef HIGH32
#undef LOW64
#undef HIGH64

#else /* compilers that cannot shuffle vectors: GCC before 12 */

/* Big-endian words to numbers and back. */
INLINE V32 KERNEL(swap32)(V32 x)
{
    return (ROTATE32(x, 24) & 0x00ff00ff) | (ROTATE32(x, 8) & 0xff00ff00);
}

INLINE V64 KERNEL(swap64)(V64 x)
{
    V64 y = (V64)KERNEL(swap32)((V32)x);
    return ROTATE64(y, 32);
}

/* Word number i of each lane's bytes into w[i]. */
INLINE void KERNEL(load32)(V32 *w, const uint8_t *const *from, int words)
{
    uint32_t table[16][N32] __attribute__((aligned(BYTES)));
    for (int lane = 0; lane < N32; lane++)
        for (int i = 0; i < words; i++)
            memcpy(&table[i][lane], from[lane] + 4 * i, 4);
    for (int i = 0; i < words; i++)
        w[i] = KERNEL(swap32)(*(const V32 *)table[i]);
}

INLINE void KERNEL(load64)(V64 *w, const uint8_t *const *from, int words)
{
    uint64_t table[16][N64] __attribute__((aligned(BYTES)));
    for (int lane = 0; lane < N64; lane++)
        for (int i = 0; i < words; i++)
            memcpy(&table[i][lane], from[lane] + 8 * i, 8);
    for (int i = 0; i < words; i++)
        w[i] = KERNEL(swap64)(*(const V64 *)table[i]);
}

INLINE void KERNEL(store32)(const V32 *w, uint8_t *const *to, int words, int lanes)
{
    uint32_t table[8][N32] __attribute__((aligned(BYTES)));
    for (int i = 0; i < words; i++)
        *(V32 *)table[i] = KERNEL(swap32)(w[i]);
    for (int lane = 0; lane < lanes; lane++)
        for (int i = 0; i < words; i++)
            memcpy(to[lane] + 4 * i, &table[i][lane], 4);
}

INLINE void KERNEL(store64)(const V64 *w, uint8_t *const *to, int words, int lanes)
{
    uint64_t table[8][N64] __attribute__((aligned(BYTES)));
    for (int i = 0; i < words; i++)
        *(V64 *)table[i] = KERNEL(swap64)(w[i]);
    for (int lane = 0; lane < lanes; lane++)
        for (int i = 0; i < words; i++)
            memcpy(to[lane] + 8 * i, &table[i][lane], 8);
}
#endif

/* Two of three: a & b | a & c | b & c. */
#if BYTES == 64 /* one instruction, for which GCC takes two: 0xe8 is the table of its results */
#define MAJORITY(a, b, c)                                                                                          \
    ((__typeof__(a))_mm512_ternarylogic_epi64((__m512i)(a), (__m512i)(b), (__m512i)(c), 0xe8))
#else /* a ^ b is the b ^ c of the next round */
#define MAJORITY(a, b, c) ((b) ^ (((a) ^ (b)) & ((b) ^ (c))))
#endif

/* FIPS 180-4, 6.1.2 */
#define F1_CHOOSE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define F1_PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define F1_MAJORITY(b, c, d) MAJORITY(b, c, d)
#define ROUND1(f, k, a, b, c, d, e, word)                                                                          \
    e += ROTATE32(a, 27) + f(b, c, d) + k + (word);                                                                \
    b = ROTATE32(b, 2);
#define WORD1(t)                                                                                                   \
    ((t) < 16 ? w[(t) & 15]                                                                                        \
              : (m = w[((t) + 13) & 15] ^ w[((t) + 8) & 15] ^ w[((t) + 2) & 15] ^ w[(t) & 15],                     \
                 w[(t) & 15] = ROTATE32(m, 31)))
#define FIVE1(f, k, t)                                                                                             \
    ROUND1(f, k, a, b, c, d, e, WORD1(t))                                                                          \
    ROUND1(f, k, e, a, b, c, d, WORD1((t) + 1))                                                                    \
    ROUND1(f, k, d, e, a, b, c, WORD1((t) + 2))                                                                    \
    ROUND1(f, k, c, d, e, a, b, WORD1((t) + 3))                                                                    \
    ROUND1(f, k, b, c, d, e, a, WORD1((t) + 4))
#define TWENTY1(f, k, t) FIVE1(f, k, t) FIVE1(f, k, (t) + 5) FIVE1(f, k, (t) + 10) FIVE1(f, k, (t) + 15)

INLINE void KERNEL(compress1)(V32 *s, V32 *w)
{
    V32 a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], m;
    TWENTY1(F1_CHOOSE, 0x5a827999, 0)
    TWENTY1(F1_PARITY, 0x6ed9eba1, 20)
    TWENTY1(F1_MAJORITY, 0x8f1bbcdc, 40)
    TWENTY1(F1_PARITY, 0xca62c1d6, 60)
    s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e;
}

/* FIPS 180-4, 6.2.2 and 6.4.2 */
#define ROUND2(rotate, r, a, b, c, d, e, f, g, h, word)                                                            \
    h += (rotate(e, r[0]) ^ rotate(e, r[1]) ^ rotate(e, r[2])) + ((g) ^ ((e) & ((f) ^ (g)))) + (word);             \
    d += h;                                                                                                        \
    h += (rotate(a, r[3]) ^ rotate(a, r[4]) ^ rotate(a, r[5])) + MAJORITY(a, b, c);
#define EIGHT2(rotate, r, word, t)                                                                                 \
    ROUND2(rotate, r, a, b, c, d, e, f, g, h, word(t))                                                             \
    ROUND2(rotate, r, h, a, b, c, d, e, f, g, word((t) + 1))                                                       \
    ROUND2(rotate, r, g, h, a, b, c, d, e, f, word((t) + 2))                                                       \
    ROUND2(rotate, r, f, g, h, a, b, c, d, e, word((t) + 3))                                                       \
    ROUND2(rotate, r, e, f, g, h, a, b, c, d, word((t) + 4))                                                       \
    ROUND2(rotate, r, d, e, f, g, h, a, b, c, word((t) + 5))                                                       \
    ROUND2(rotate, r, c, d, e, f, g, h, a, b, word((t) + 6))                                                       \
    ROUND2(rotate, r, b, c, d, e, f, g, h, a, word((t) + 7))
#define SIGMA0_256(x) (ROTATE32(x, 7) ^ ROTATE32(x, 18) ^ ((x) >> 3))
#define SIGMA1_256(x) (ROTATE32(x, 17) ^ ROTATE32(x, 19) ^ ((x) >> 10))
#define SIGMA0_512(x) (ROTATE64(x, 1) ^ ROTATE64(x, 8) ^ ((x) >> 7))
#define SIGMA1_512(x) (ROTATE64(x, 19) ^ ROTATE64(x, 61) ^ ((x) >> 6))
#define FIRST_256(i) (w[(i) & 15] + (uint32_t)(K512[t + (i)] >> 32))
#define LATER_256(i)                                                                                               \
    ((w[(i) & 15] += w[((i) + 9) & 15] + SIGMA0_256(w[((i) + 1) & 15]) + SIGMA1_256(w[((i) + 14) & 15])) +         \
     (uint32_t)(K512[t + (i)] >> 32))
#define FIRST_512(i) (w[(i) & 15] + K512[t + (i)])
#define LATER_512(i)                                                                                               \
    ((w[(i) & 15] += w[((i) + 9) & 15] + SIGMA0_512(w[((i) + 1) & 15]) + SIGMA1_512(w[((i) + 14) & 15])) +         \
     K512[t + (i)])
#define PADDED_256(i) PADDING256[t + (i)]
#define PADDED_512(i) PADDING512[t + (i)]
#define ADD_STATE s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;

static const int KERNEL(R256)[6] = {6, 11, 25, 2, 13, 22};
static const int KERNEL(R512)[6] = {14, 18, 41, 28, 34, 39};

INLINE void KERNEL(compress256)(V32 *s, V32 *w)
{
    V32 a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    int t = 0;
    EIGHT2(ROTATE32, KERNEL(R256), FIRST_256, 0)
    EIGHT2(ROTATE32, KERNEL(R256), FIRST_256, 8)
    for (t = 16; t < 64; t += 16) {
        EIGHT2(ROTATE32, KERNEL(R256), LATER_256, 0)
        EIGHT2(ROTATE32, KERNEL(R256), LATER_256, 8)
    }
    ADD_STATE
}

INLINE void KERNEL(compress512)(V64 *s, V64 *w)
{
    V64 a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    int t = 0;
    EIGHT2(ROTATE64, KERNEL(R512), FIRST_512, 0)
    EIGHT2(ROTATE64, KERNEL(R512), FIRST_512, 8)
    for (t = 16; t < 80; t += 16) {
        EIGHT2(ROTATE64, KERNEL(R512), LATER_512, 0)
        EIGHT2(ROTATE64, KERNEL(R512), LATER_512, 8)
    }
    ADD_STATE
}

/* The padding block behind exactly one full block. */
INLINE void KERNEL(pad256)(V32 *s)
{
    V32 a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int t = 0; t < 64; t += 8) {
        EIGHT2(ROTATE32, KERNEL(R256), PADDED_256, 0)
    }
    ADD_STATE
}

INLINE void KERNEL(pad512)(V64 *s)
{
    V64 a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int t = 0; t < 80; t += 8) {
        EIGHT2(ROTATE64, KERNEL(R512), PADDED_512, 0)
    }
    ADD_STATE
}

/* The rows that the lanes work on: those from `first`; lanes past the last row repeat it and are not stored. */
INLINE int KERNEL(rows)(const struct job *job, Py_ssize_t first, int lanes, uint8_t **state, const uint8_t **data)
{
    Py_ssize_t left = job->count - first;
    int used = left < lanes ? (int)left : lanes;
    for (int lane = 0; lane < lanes; lane++) {
        Py_ssize_t row = first + (lane < used ? lane : 0);
        state[lane] = job->states + (job->where != NULL ? job->where[row] : row) * (Py_ssize_t)DIGEST[job->algorithm];
        data[lane] = job->data + row * job->stride;
    }
    return used;
}

TARGET static void KERNEL(extend_1)(const struct job *job)
{
    uint8_t *state[N32];
    const uint8_t *data[N32];
    for (Py_ssize_t row = 0; row < job->count; row += N32) {
        int used = KERNEL(rows)(job, row, N32, state, data);
        V32 w[16], s[5];
        KERNEL(load32)(w, (const uint8_t *const *)state, 5);
        KERNEL(load32)(w + 5, data, 5);
        for (int i = 10; i < 16; i++)
            w[i] = (V32){0} + (i == 10 ? 0x80000000 : i == 15 ? 320 : 0);
        for (int i = 0; i < 5; i++)
            s[i] = (V32){0} + H1[i];
        KERNEL(compress1)(s, w);
        KERNEL(store32)(s, state, 5, used);
    }
}

TARGET static void KERNEL(extend_256)(const struct job *job)
{
    uint8_t *state[N32];
    const uint8_t *data[N32];
    for (Py_ssize_t row = 0; row < job->count; row += N32) {
        int used = KERNEL(rows)(job, row, N32, state, data);
        V32 w[16], s[8];
        KERNEL(load32)(w, (const uint8_t *const *)state, 8);
        KERNEL(load32)(w + 8, data, 8);
        for (int i = 0; i < 8; i++)
            s[i] = (V32){0} + H256[i];
        KERNEL(compress256)(s, w);
        KERNEL(pad256)(s);
        KERNEL(store32)(s, state, 8, used);
    }
}

TARGET static void KERNEL(extend_384)(const struct job *job)
{
    uint8_t *state[N64];
    const uint8_t *data[N64];
    for (Py_ssize_t row = 0; row < job->count; row += N64) {
        int used = KERNEL(rows)(job, row, N64, state, data);
        V64 w[16], s[8];
        KERNEL(load64)(w, (const uint8_t *const *)state, 6);
        KERNEL(load64)(w + 6, data, 6);
        for (int i = 12; i < 16; i++)
            w[i] = (V64){0} + (i == 12 ? 0x8000000000000000 : i == 15 ? 768 : 0);
        for (int i = 0; i < 8; i++)
            s[i] = (V64){0} + H384[i];
        KERNEL(compress512)(s, w);
        KERNEL(store64)(s, state, 6, used);
    }
}

TARGET static void KERNEL(extend_512)(const struct job *job)
{
    uint8_t *state[N64];
    const uint8_t *data[N64];
    for (Py_ssize_t row = 0; row < job->count; row += N64) {
        int used = KERNEL(rows)(job, row, N64, state, data);
        V64 w[16], s[8];
        KERNEL(load64)(w, (const uint8_t *const *)state, 8);
        KERNEL(load64)(w + 8, data, 8);
        for (int i = 0; i < 8; i++)
            s[i] = (V64){0} + H512[i];
        KERNEL(compress512)(s, w);
        KERNEL(pad512)(s);
        KERNEL(store64)(s, state, 8, used);
    }
}

/* Block number `number` of prefix, row and padding (FIPS 180-4, 5.1), for each lane: where it lies within the row,
 * there; else put together in `scratch`. */
INLINE void KERNEL(blocks)(const struct job *job, size_t number, size_t block, int lanes, const uint8_t *const *data,
                           uint8_t (*scratch)[128], const uint8_t **from)
{
    size_t start = number * block, message = job->prefix_width + job->width, length = block / 8;
    if (start >= job->prefix_width && start + block <= message) {
        for (int lane = 0; lane < lanes; lane++)
            from[lane] = data[lane] + (start - job->prefix_width);
        return;
    }
    size_t total = (message + 1 + length + block - 1) / block;
    for (int lane = 0; lane < lanes; lane++) {
        uint8_t *to = scratch[lane];
        memset(to, 0, block);
        for (size_t i = 0; i < block; i++) {
            size_t at = start + i;
            if (at < job->prefix_width)
                to[i] = job->prefix[at];
            else if (at < message)
                to[i] = data[lane][at - job->prefix_width];
            else if (at == message)
                to[i] = 0x80;
        }
        if (number == total - 1)
            for (int i = 0; i < 8; i++)
                to[block - 1 - (size_t)i] = (uint8_t)((uint64_t)message * 8 >> 8 * i);
        from[lane] = to;
    }
}

#define HASH(name, vector, lanes, block, words, initial, load, compress, store)                                    \
    TARGET static void name(const struct job *job)                                                                 \
    {                                                                                                              \
        uint8_t *state[lanes];                                                                                     \
        const uint8_t *data[lanes], *from[lanes];                                                                  \
        uint8_t scratch[lanes][128];                                                                               \
        size_t total = (job->prefix_width + job->width + 1 + block / 8 + block - 1) / block;                       \
        for (Py_ssize_t row = 0; row < job->count; row += lanes) {                                                 \
            int used = KERNEL(rows)(job, row, lanes, state, data);                                                 \
            vector w[16], s[8];                                                                                    \
            for (int i = 0; i < (int)(sizeof initial / sizeof *initial); i++)                                      \
                s[i] = (vector){0} + initial[i];                                                                   \
            for (size_t number = 0; number < total; number++) {                                                    \
                KERNEL(blocks)(job, number, block, lanes, data, scratch, from);                                    \
                load(w, from, 16);                                                                                 \
                compress(s, w);                                                                                    \
            }                                                                                                      \
            store(s, state, words, used);                                                                          \
        }                                                                                                          \
    }

HASH(KERNEL(hash_1), V32, N32, 64, 5, H1, KERNEL(load32), KERNEL(compress1), KERNEL(store32))
HASH(KERNEL(hash_256), V32, N32, 64, 8, H256, KERNEL(load32), KERNEL(compress256), KERNEL(store32))
HASH(KERNEL(hash_384), V64, N64, 128, 6, H384, KERNEL(load64), KERNEL(compress512), KERNEL(store64))
HASH(KERNEL(hash_512), V64, N64, 128, 8, H512, KERNEL(load64), KERNEL(compress512), KERNEL(store64))

#undef KERNEL
#undef BYTES
#undef TARGET
#undef N32
#undef N64
#undef V32
#undef V64
#undef MAJORITY
#undef F1_CHOOSE
#undef F1_PARITY
#undef F1_MAJORITY
#undef ROUND1
#undef WORD1
#undef FIVE1
#undef TWENTY1
#undef ROUND2
#undef EIGHT2
#undef SIGMA0_256
#undef SIGMA1_256
#undef SIGMA0_512
#undef SIGMA1_512
#undef FIRST_256
#undef LATER_256
#undef FIRST_512
#undef LATER_512
#undef PADDED_256
#undef PADDED_512
#undef ADD_STATE
#undef HASH
#endif
