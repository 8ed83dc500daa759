/* Tensors in safetensors files, on a little-endian machine. Functions return NULL, or what is wrong. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char dtype[8];            /* "F64", "F32", "F16", "BF16" or "I64" */
    int rank;
    long shape[4];            /* the last `rank` are its axes; those before are 1 */
    long count;               /* how many numbers */
    unsigned char *data;      /* inside the file that was read */
} Tensor;

/* The whole file, ended by a zero so that it can be searched as text. To be freed. */
static char *read_file(const char *path, long *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *bytes = malloc((size_t)*size + 1);
    if (bytes && fread(bytes, 1, (size_t)*size, file) != (size_t)*size) { free(bytes); bytes = NULL; }
    if (bytes) bytes[*size] = 0;
    fclose(file);
    return bytes;
}

static int width(const char *dtype) /* bytes of a number, 0 for an unknown dtype */
{
    if (!strcmp(dtype, "F64") || !strcmp(dtype, "I64")) return 8;
    return !strcmp(dtype, "F32") ? 4 : !strcmp(dtype, "F16") || !strcmp(dtype, "BF16") ? 2 : 0;
}

/* The tensor of this name in a safetensors file: {"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},... */
static const char *find_tensor(char *file, long size, const char *name, Tensor *t)
{
    char key[64];
    uint64_t header;
    if (size < 8 || (memcpy(&header, file, 8), header > (uint64_t)size - 8)) return "not a safetensors file";
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"", name);
    char *at = strstr(file + 8, key);
    if (!at || at >= file + 8 + header) return "a tensor is missing";
    at += strlen(key);
    size_t letters = strcspn(at, "\"");
    if (letters >= sizeof t->dtype) return "unknown dtype";
    memcpy(t->dtype, at, letters);
    t->dtype[letters] = 0;
    if (!width(t->dtype)) return "unknown dtype";

    long sizes[4], begin, end;
    at = strchr(at, '[') + 1;
    for (t->rank = 0; *at != ']' && t->rank < 4; t->rank++) {
        sizes[t->rank] = strtol(at, &at, 10);
        if (*at == ',') at++;
    }
    if (sscanf(at, "],\"data_offsets\":[%ld,%ld]", &begin, &end) != 2) return "a header that is not understood";
    t->count = 1;
    for (int i = 0; i < 4; i++) {
        t->shape[i] = i < 4 - t->rank ? 1 : sizes[i - (4 - t->rank)];
        t->count *= t->shape[i];
    }
    if (begin < 0 || end - begin != t->count * width(t->dtype) || end > size - 8 - (long)header) return "a file cut short";
    t->data = (unsigned char *)file + 8 + header + begin;
    return NULL;
}

/* 16-bit floats: a sign, 15 - fraction bits of exponent, then the fraction (7 bits in bfloat16, 10 in float16). */
static double from_16(uint16_t h, int fraction)
{
    int bias = (1 << (14 - fraction)) - 1, exponent = (h & 0x7fff) >> fraction, low = h & ((1 << fraction) - 1);
    double size = exponent == 2 * bias + 1 ? (low ? NAN : INFINITY)
                : exponent ? ldexp(low + (1 << fraction), exponent - bias - fraction) : ldexp(low, 1 - bias - fraction);
    return h & 0x8000 ? -size : size;
}

static uint16_t to_16(double x, int fraction) /* to nearest, ties to even */
{
    int bias = (1 << (14 - fraction)) - 1, exponent, sign = signbit(x) ? 0x8000 : 0;
    long infinity = (long)(2 * bias + 1) << fraction;
    if (isnan(x)) return (uint16_t)(sign | infinity | 1);
    if (isinf(x)) return (uint16_t)(sign | infinity);
    if (x == 0) return (uint16_t)sign;
    frexp(x, &exponent);
    if (exponent < 2 - bias) exponent = 2 - bias; /* subnormal */
    long code = ((long)(exponent + bias - 2) << fraction) + (long)rint(ldexp(fabs(x), fraction + 1 - exponent));
    return (uint16_t)(sign | (code > infinity ? infinity : code));
}

static double get(const Tensor *t, long i)
{
    double d; float f; uint16_t h; int64_t n;
    if (!strcmp(t->dtype, "F64")) { memcpy(&d, t->data + 8 * i, 8); return d; }
    if (!strcmp(t->dtype, "I64")) { memcpy(&n, t->data + 8 * i, 8); return (double)n; }
    if (!strcmp(t->dtype, "F32")) { memcpy(&f, t->data + 4 * i, 4); return f; }
    memcpy(&h, t->data + 2 * i, 2);
    return from_16(h, t->dtype[0] == 'B' ? 7 : 10);
}

static void put(Tensor *t, long i, double x) /* rounds once, to the dtype */
{
    float f = (float)x;
    if (!strcmp(t->dtype, "F64")) { memcpy(t->data + 8 * i, &x, 8); return; }
    if (!strcmp(t->dtype, "F32")) { memcpy(t->data + 4 * i, &f, 4); return; }
    uint16_t h = to_16(x, t->dtype[0] == 'B' ? 7 : 10);
    memcpy(t->data + 2 * i, &h, 2);
}
