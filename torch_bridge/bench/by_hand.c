/* The rotation as one would write it in C by hand: the yardstick of what Numba compiles.

   x and out hold rows (heads, tokens, width) of float32, cos and sin rows (tokens, width / 2); width is a multiple of
   32. In place, out is x. Each product and each sum is rounded, as in numba_kernels, so the results are the same bits.
   Built with -O3 -march=native -ffp-contract=off -fopenmp. */

#include <omp.h>
#include <stdint.h>
#if defined __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

struct rotation {
    const float *x;
    float *out;
    const float *cos, *sin;
    int64_t heads, tokens, width, interleaved;
    int64_t block;   /* tokens whose tables stay in a cache while the heads pass over them */
    int64_t ahead;   /* whether to prefetch what lies 4 KiB ahead */
    int64_t streams; /* whether to store past the cache: out begins at a cache line */
    int64_t threads; /* each has an equal part of the heads */
};

/* A vector register: load, store, and two shuffles. `apart` takes pairs (a, b) that lie side by side in two vectors to
   all a and all b, in the order of the entries that `table` loads; `together` takes them back. */

#if defined __AVX512F__

#define LANES 16
#define EACH_VECTOR _Pragma("GCC unroll 8")
typedef __m512 vector;

INLINE vector load(const float *from) { return _mm512_loadu_ps(from); }

INLINE void store(float *to, vector v, int64_t streams) {
    if (streams)
        _mm512_stream_ps(to, v);
    else
        _mm512_storeu_ps(to, v);
}

INLINE vector table(const float *from) { return load(from); }

INLINE void apart(vector first, vector second, vector *a, vector *b) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *a = _mm512_permutex2var_ps(first, even, second);
    *b = _mm512_permutex2var_ps(first, _mm512_add_epi32(even, _mm512_set1_epi32(1)), second);
}

INLINE void together(vector a, vector b, vector *first, vector *second) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *first = _mm512_permutex2var_ps(a, low, b);
    *second = _mm512_permutex2var_ps(a, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b);
}

#elif defined __AVX2__

#define LANES 8
#define EACH_VECTOR _Pragma("GCC unroll 8")
typedef __m256 vector;

INLINE vector load(const float *from) { return _mm256_loadu_ps(from); }

INLINE void store(float *to, vector v, int64_t streams) {
    if (streams)
        _mm256_stream_ps(to, v);
    else
        _mm256_storeu_ps(to, v);
}

/* Shuffles stay within 128 bits: they leave pairs 0 1 4 5 2 3 6 7. */
INLINE vector table(const float *from) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(load(from)), _MM_SHUFFLE(3, 1, 2, 0)));
}

INLINE void apart(vector first, vector second, vector *a, vector *b) {
    *a = _mm256_shuffle_ps(first, second, _MM_SHUFFLE(2, 0, 2, 0));
    *b = _mm256_shuffle_ps(first, second, _MM_SHUFFLE(3, 1, 3, 1));
}

INLINE void together(vector a, vector b, vector *first, vector *second) {
    *first = _mm256_unpacklo_ps(a, b);
    *second = _mm256_unpackhi_ps(a, b);
}

#else

#define LANES 1
#define EACH_VECTOR _Pragma("omp simd")
typedef float vector;

INLINE vector load(const float *from) { return *from; }

INLINE void store(float *to, vector v, int64_t streams) {
    (void)streams;
    *to = v;
}

INLINE vector table(const float *from) { return *from; }

INLINE void apart(vector first, vector second, vector *a, vector *b) { *a = first, *b = second; }

INLINE void together(vector a, vector b, vector *first, vector *second) { *first = a, *second = b; }

#endif

INLINE void rotate_row(
    const float *x, float *out, const float *cos, const float *sin, int64_t width, int interleaved, int streams
) {
    const int64_t pairs = width / 2;
    EACH_VECTOR
    for (int64_t k = 0; k < pairs; k += LANES) {
        const int64_t i = interleaved ? 2 * k : k, j = interleaved ? i + LANES : k + pairs;
        vector a = load(x + i), b = load(x + j);
        const vector c = interleaved ? table(cos + k) : load(cos + k), s = interleaved ? table(sin + k) : load(sin + k);
        if (interleaved)
            apart(a, b, &a, &b);
        vector first = a * c - b * s, second = b * c + a * s;
        if (interleaved)
            together(first, second, &first, &second);
        store(out + i, first, streams);
        store(out + j, second, streams);
    }
}

INLINE void rotate_heads(
    const struct rotation *r, int64_t low, int64_t high, int64_t width, int interleaved, int ahead, int streams
) {
    for (int64_t begin = 0; begin < r->tokens; begin += r->block) {
        const int64_t end = begin + r->block < r->tokens ? begin + r->block : r->tokens;
        for (int64_t head = low; head < high; head++) {
            for (int64_t token = begin; token < end; token++) {
                const int64_t row = (head * r->tokens + token) * width, of_table = token * (width / 2);
                if (ahead)
                    for (int64_t k = 0; k < width; k += 64 / sizeof(float))
                        __builtin_prefetch((const char *)(r->x + row + k) + 4096, 0, 3);
                rotate_row(r->x + row, r->out + row, r->cos + of_table, r->sin + of_table, width, interleaved, streams);
            }
        }
    }
#if LANES > 1
    if (streams)
        _mm_sfence();
#endif
}

/* Options as constants, so that there is a loop for each. */
INLINE void with_options(const struct rotation *r, int64_t low, int64_t high, int64_t width) {
    switch (4 * (r->interleaved != 0) + 2 * (r->ahead != 0) + (r->streams != 0)) {
    case 0: rotate_heads(r, low, high, width, 0, 0, 0); break;
    case 1: rotate_heads(r, low, high, width, 0, 0, 1); break;
    case 2: rotate_heads(r, low, high, width, 0, 1, 0); break;
    case 3: rotate_heads(r, low, high, width, 0, 1, 1); break;
    case 4: rotate_heads(r, low, high, width, 1, 0, 0); break;
    case 5: rotate_heads(r, low, high, width, 1, 0, 1); break;
    case 6: rotate_heads(r, low, high, width, 1, 1, 0); break;
    case 7: rotate_heads(r, low, high, width, 1, 1, 1); break;
    }
}

static void rotate_part(const struct rotation *r, int64_t part, int64_t parts) {
    const int64_t low = r->heads * part / parts, high = r->heads * (part + 1) / parts;
    switch (r->width) {
    case 64: with_options(r, low, high, 64); break;
    case 128: with_options(r, low, high, 128); break;
    case 256: with_options(r, low, high, 256); break;
    default: with_options(r, low, high, r->width);
    }
}

/* Numbers in a vector: 1 where stores cannot stream. */
int64_t lanes(void) { return LANES; }

void rotate(const struct rotation *r) {
    if (r->threads == 1) {
        rotate_part(r, 0, 1);
        return;
    }
#pragma omp parallel num_threads((int)r->threads)
    rotate_part(r, omp_get_thread_num(), omp_get_num_threads());
}
