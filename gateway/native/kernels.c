/* The arithmetic of the bundled embedder and of searches, called from Python through ctypes.

   The loops are in kernels.h, compiled once for each kind of processor that may be there; the caller names the one to
   use. All memory belongs to the caller, and every index is checked before it is used. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
    VERSION = 1,
    PANEL = 32,      /* columns of a matrix that lie together, so that a product reads it from front to end */
    EMBEDDING = 512, /* numbers of a token's embedding */
    BRANCH = 256,    /* of a branch of convolutions */
    BRANCHES = 3,
    FEATURES = EMBEDDING + BRANCHES * BRANCH,
    POSITIONS = 10, /* of the windows of all branches */
    NUMBERS = (BRANCHES + POSITIONS) * BRANCH, /* of a token's row */
    STEP = 32,                                 /* numbers that share a step */
    WIDE = 512,   /* of a vector */
    NARROW = 320, /* of some layers at the end */
    LAYERS = 6,
    REACH = 2,   /* tokens that a window reaches to either side, at most */
    ROWS = 192,  /* of the tokens that go through the network together */
    TEXTS = 64,  /* whose sums go through the last layers together */
    MISSES = 24, /* tokens whose rows are computed together */
    LEAST = 16,  /* tokens of a part of a text */
    ENTRIES = 512,
    AHEAD = 8, /* rows by which a product of many rows reads memory in advance */
};

static const int SIZES[BRANCHES] = {2, 3, 5}, BEFORE[BRANCHES] = {0, 1, 2};

typedef struct {
    const int8_t *weights; /* in panels; a weight is this number times the scale */
    float scale;
    int32_t depth, width;
} matrix;

typedef struct {
    const float *first_bias, *second_bias, *project_bias, *project_gain, *project_shift;
    const float *gain, *shift, *pool_bias;
    const float *steps, *lows; /* of the table's chunks */
    const uint8_t *table;
    /* rows of tokens: `marks` are FREE, KEPT, or IN_USE by the tokens that are being computed */
    int32_t *slot_of_token, *token_of_slot;
    uint8_t *marks;
    int16_t *rows;
    float *row_steps;
    float *scratch;
    matrix project[BRANCHES], positions[BRANCHES], second[BRANCHES], pool, dense[LAYERS];
    float eps;
    int32_t vocabulary, chunks, slots, hand;
    int64_t misses;
} encoder;

enum { FREE, KEPT, IN_USE };

typedef struct {
    int count;
    int32_t row[ROWS], token[ROWS], text[ROWS];
} layout; /* of tokens: the row of each, and the text it belongs to */

typedef struct {
    const int8_t *rows;
    const float *scales;
    int64_t count;
    int32_t dimensions;
} bytes_matrix;

typedef struct {
    void (*fill)(encoder *, const int32_t *, int);
    void (*convolve)(const encoder *, const int32_t *, int, int, float *);
    void (*sum_rows)(encoder *, const layout *, float *);
    void (*finish)(encoder *, float *, const int32_t *, int, float *);
    void (*dot)(const float *, const bytes_matrix *, const int32_t *, int64_t, float *);
} functions;

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define X86
#define PATH avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define LANES 16
#define COLUMNS 2
#define MAX_ROWS 12
#define FROM_BYTES(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define FROM_UNSIGNED(p) _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define FROM_SHORTS(p) _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(p))))
#include "kernels.h"

#define PATH avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define COLUMNS 2
#define MAX_ROWS 6
#define FROM_BYTES(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define FROM_UNSIGNED(p) _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define FROM_SHORTS(p) _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(p))))
#include "kernels.h"
#endif

#if defined(__aarch64__)
#include <arm_neon.h>
#define PATH neon
#define TARGET
#define LANES 4
#define COLUMNS 4
#define MAX_ROWS 6
#define FOUR_BYTES(p) vreinterpret_u8_u32(vld1_lane_u32((const uint32_t *)(p), vdup_n_u32(0), 0))
#define FROM_BYTES(p) vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(FOUR_BYTES(p))))))
#define FROM_UNSIGNED(p) vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(FOUR_BYTES(p)))))
#define FROM_SHORTS(p) vcvtq_f32_s32(vmovl_s16(vld1_s16(p)))
#include "kernels.h"
#endif

/* Any processor: four lanes are what the least of them has, and others do without. */
#define PATH generic
#define TARGET
#define LANES 4
#define COLUMNS 2
#define MAX_ROWS 4
#if defined(X86)
static inline __m128 sse_from_shorts(__m128i shorts) {
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(shorts, shorts), 16));
}
static inline __m128i sse_load(const void *values) {
    int32_t four;
    memcpy(&four, values, sizeof four);
    return _mm_cvtsi32_si128(four);
}
#define FROM_BYTES(p) sse_from_shorts(_mm_srai_epi16(_mm_unpacklo_epi8(sse_load(p), sse_load(p)), 8))
#define FROM_UNSIGNED(p) sse_from_shorts(_mm_unpacklo_epi8(sse_load(p), _mm_setzero_si128()))
#define FROM_SHORTS(p) sse_from_shorts(_mm_loadl_epi64((const __m128i *)(p)))
#else
#define FOUR(p) {(p)[0], (p)[1], (p)[2], (p)[3]}
#define FROM_BYTES(p) (FLOATS)FOUR(p)
#define FROM_UNSIGNED(p) (FLOATS)FOUR(p)
#define FROM_SHORTS(p) (FLOATS)FOUR(p)
#endif
#include "kernels.h"

static const struct {
    const char *name;
    const functions *functions;
} PATHS[] = {
#if defined(X86)
    {"avx512", &functions_avx512},
    {"avx2", &functions_avx2},
#endif
#if defined(__aarch64__)
    {"neon", &functions_neon},
#endif
    {"generic", &functions_generic},
};
enum { PATH_COUNT = sizeof PATHS / sizeof *PATHS };

EXPORT int32_t kernels_version(void) { return VERSION; }

EXPORT int64_t kernels_encoder_size(void) { return sizeof(encoder); }

/* The name of a path, best first; NULL after the last one. */
EXPORT const char *kernels_path(int32_t path) { return path >= 0 && path < PATH_COUNT ? PATHS[path].name : NULL; }

#if defined(X86)
/* The number of the best path that the processor has, and the system saves the registers of. Asked once: it is slow in a
   virtual machine. Not with __builtin_cpu_supports, which says no to all in libraries of some compilers. */
static int32_t best_path(void) {
    static volatile int32_t best = -1;
    uint32_t a, b, c, d, saved = 0, above;
    if (best >= 0) return best;
    int32_t path = 2;
    if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) && (c & bit_FMA)) {
        __asm__ volatile("xgetbv" : "=a"(saved), "=d"(above) : "c"(0));
        if ((saved & 0x6) == 0x6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2)) {
            const uint32_t needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* AVX-512 F, DQ, BW, VL */
            path = (saved & 0xE6) == 0xE6 && (b & needed) == needed ? 0 : 1;
        }
    }
    best = path;
    return path;
}
#else
static int32_t best_path(void) { return 0; }
#endif

/* 1 if this processor has what the path needs. */
EXPORT int32_t kernels_has_path(int32_t path) { return path >= best_path() && path < PATH_COUNT; }

/* Floats that `encoder.scratch` needs. */
EXPORT int64_t kernels_scratch_size(void) { return 2 * BRANCHES * ROWS * BRANCH + TEXTS * FEATURES; }

/* ---- cosines ---- */

/* Products of a vector with the rows `chosen`, or with the first `count` rows where that is NULL, each times the row's
   scale. Returns 0, or -1 if a row is not there. */
EXPORT int32_t kernels_dot(int32_t path, const float *vector, const bytes_matrix *matrix, const int32_t *chosen,
                           int64_t count, float *products) {
    if (!kernels_has_path(path) || matrix->dimensions < 1 || count < 0) return -1;
    if (!chosen && count > matrix->count) return -1;
    for (int64_t index = 0; chosen && index < count; index++)
        if (chosen[index] < 0 || chosen[index] >= matrix->count) return -1;
    PATHS[path].functions->dot(vector, matrix, chosen, count, products);
    return 0;
}

/* ---- the encoder ---- */

static int has_shape(const matrix *by, int depth, int width) { return by->depth == depth && by->width == width; }

static int is_whole(const encoder *model) {
    static const int LAYER_SHAPES[LAYERS][2] = {{WIDE, NARROW},   {WIDE, NARROW}, {NARROW, NARROW},
                                                {NARROW, WIDE}, {NARROW, WIDE}, {WIDE, WIDE}};
    int whole = model->slots >= ENTRIES && model->hand >= 0 && model->hand < model->slots && model->chunks > 0 &&
                has_shape(&model->pool, FEATURES, WIDE);
    for (int branch = 0; branch < BRANCHES; branch++)
        whole = whole && has_shape(&model->project[branch], EMBEDDING, BRANCH) &&
                has_shape(&model->positions[branch], BRANCH, SIZES[branch] * BRANCH) &&
                has_shape(&model->second[branch], SIZES[branch] * BRANCH, BRANCH);
    for (int layer = 0; layer < LAYERS; layer++)
        whole = whole && has_shape(&model->dense[layer], LAYER_SHAPES[layer][0], LAYER_SHAPES[layer][1]);
    return whole;
}

/* Take the slot of a token that was used longest ago, nearly: the first one that was not used since the hand passed. */
static int32_t take_slot(encoder *model, int32_t token) {
    for (;;) {
        int32_t slot = model->hand;
        model->hand = slot + 1 == model->slots ? 0 : slot + 1;
        if (model->marks[slot] == IN_USE) continue;
        if (model->marks[slot] == KEPT) {
            model->marks[slot] = FREE;
            continue;
        }
        if (model->token_of_slot[slot] >= 0) model->slot_of_token[model->token_of_slot[slot]] = -1;
        model->token_of_slot[slot] = token;
        model->slot_of_token[token] = slot;
        return slot;
    }
}

/* Find the slots of tokens, and compute the rows of those that have none. There are fewer tokens than slots. */
static void find_slots(encoder *model, const functions *path, const int32_t *tokens, int32_t *slots, int count) {
    int32_t missing[ENTRIES];
    int misses = 0;
    for (int index = 0; index < count; index++) {
        slots[index] = model->slot_of_token[tokens[index]];
        if (slots[index] >= 0) model->marks[slots[index]] = IN_USE;
    }
    for (int index = 0; index < count; index++) {
        if (slots[index] >= 0) continue;
        slots[index] = model->slot_of_token[tokens[index]]; /* it may be there twice */
        if (slots[index] >= 0) continue;
        slots[index] = missing[misses++] = take_slot(model, tokens[index]);
        model->marks[slots[index]] = IN_USE;
    }
    for (int begin = 0; begin < misses; begin += MISSES)
        path->fill(model, missing + begin, misses - begin < MISSES ? misses - begin : MISSES);
    for (int index = 0; index < count; index++) model->marks[slots[index]] = KEPT;
    model->misses += misses;
}

typedef struct {
    int32_t text, begin, end, low, high, row, entry;
} part; /* the tokens from `begin` to `end` of a text, and how far their windows reach */

/* Lay parts of texts into rows, as many as there is room for, from token `*at` of text `*text` on. */
static int lay_out(const int32_t *lengths, int texts, int32_t *text, int32_t *at, part *parts) {
    int count = 0, used = 0;
    while (*text < texts) {
        int rest = lengths[*text] - *at, room = ROWS - used - 2 * REACH;
        if (room < rest && room < LEAST) break;
        int size = rest < room ? rest : room;
        part *next = parts + count++;
        *next = (part){.text = *text, .begin = *at, .end = *at + size, .row = used};
        used += size + 2 * REACH;
        next->low = next->begin > 2 * REACH ? next->begin - 2 * REACH : 0;
        next->high = next->end + 2 * REACH < lengths[*text] ? next->end + 2 * REACH : lengths[*text];
        *at += size;
        if (*at == lengths[*text]) {
            *text += 1;
            *at = 0;
        }
    }
    return count;
}

static void convolve_part(encoder *model, const functions *path, const part *piece, int length, const int32_t *slots) {
    for (int token = piece->begin - REACH; token < piece->end + REACH; token++) {
        float *output = model->scratch + (size_t)(piece->row + token - piece->begin + REACH) * BRANCH;
        if (token < 0 || token >= length) { /* outside of the text */
            for (int branch = 0; branch < BRANCHES; branch++)
                memset(output + (size_t)branch * ROWS * BRANCH, 0, BRANCH * sizeof(float));
            continue;
        }
        path->convolve(model, slots + piece->entry + token - piece->low, token, length - 1 - token, output);
    }
}

/* Add up the normalised features of some texts' tokens; `starts`: the first token of each. */
static void sum_texts(encoder *model, const functions *path, const int32_t *tokens, const int32_t *lengths,
                      const int64_t *starts, int texts, float *sums) {
    part parts[ROWS / (2 * REACH + 1) + 1];
    int32_t entries[ENTRIES], slots[ENTRIES];
    int32_t text = 0, at = 0;
    while (text < texts) {
        int count = lay_out(lengths, texts, &text, &at, parts), used = 0;
        layout rows = {0};
        for (int index = 0; index < count; index++) {
            part *piece = parts + index;
            const int32_t *own = tokens + starts[piece->text];
            piece->entry = used;
            for (int token = piece->low; token < piece->high; token++) entries[used++] = own[token];
            for (int token = piece->begin; token < piece->end; token++, rows.count++) {
                rows.row[rows.count] = piece->row + token - piece->begin + REACH;
                rows.token[rows.count] = own[token];
                rows.text[rows.count] = piece->text;
            }
        }
        find_slots(model, path, entries, slots, used);
        for (int index = 0; index < count; index++)
            convolve_part(model, path, parts + index, lengths[parts[index].text], slots);
        path->sum_rows(model, &rows, sums);
    }
}

/* Encode texts of tokens that lie one after the other: `vectors` gets WIDE floats for each. Returns 0, or -1 if a token
   or a length is out of range, or the model is not whole. One call at a time for each encoder. */
EXPORT int32_t kernels_encode(int32_t path, encoder *model, const int32_t *tokens, int64_t token_count,
                              const int32_t *lengths, int32_t texts, float *vectors) {
    int64_t total = 0, starts[TEXTS];
    if (!kernels_has_path(path) || !is_whole(model)) return -1;
    for (int32_t text = 0; text < texts; text++) {
        if (lengths[text] < 1) return -1;
        total += lengths[text];
    }
    if (total != token_count) return -1;
    for (int64_t index = 0; index < token_count; index++)
        if (tokens[index] < 0 || tokens[index] >= model->vocabulary) return -1;
    float *sums = model->scratch + 2 * BRANCHES * ROWS * BRANCH;
    for (int32_t begin = 0; begin < texts; begin += TEXTS) {
        int count = texts - begin < TEXTS ? texts - begin : TEXTS;
        int64_t start = 0;
        for (int text = 0; text < count; text++) {
            starts[text] = start;
            start += lengths[begin + text];
        }
        memset(sums, 0, (size_t)count * FEATURES * sizeof(float));
        sum_texts(model, PATHS[path].functions, tokens, lengths + begin, starts, count, sums);
        PATHS[path].functions->finish(model, sums, lengths + begin, count, vectors + (size_t)begin * WIDE);
        tokens += start;
    }
    return 0;
}
