/* A rotary embedding: its description read from JSON, its angles, its rotation. Needs tensors.h. */

typedef struct {
    long head_dim, start, heads, pairs, axes;
    int interleaved, has_xpos;
    double attention_scale, scale_base, center, gamma, power;
    double *inv_freq; /* heads x pairs x axes, radians per position */
} Rope;

/* Where the value of a key begins: the keys of a description come in a fixed order, each once. */
static const char *value(const char *text, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *at = strstr(text, quoted);
    return at ? at + strlen(quoted) : "";
}

static long whole(const char *text, const char *key) { return strtol(value(text, key), NULL, 10); }

static double number(const char *text, const char *key) /* exact: "0x1.8p+1", in quotes */
{
    const char *at = value(text, key);
    return strtod(at + (*at == '"'), NULL);
}

static const char *read_rope(const char *text, Rope *r)
{
    r->head_dim = whole(text, "head_dim");
    r->start = whole(text, "start");
    r->heads = whole(text, "heads");
    r->pairs = whole(text, "pairs");
    r->axes = whole(text, "axes");
    r->interleaved = !strncmp(value(text, "pairing"), "\"interleaved\"", 13);
#ifdef WRONG_PAIRING
    r->interleaved = !r->interleaved;
#endif
    r->attention_scale = number(text, "attention_scale_hex");
    const char *xpos = value(text, "xpos");
    r->has_xpos = *xpos == '{';
    if (r->has_xpos) {
        r->scale_base = number(xpos, "scale_base_hex");
        r->center = number(xpos, "center_hex");
        r->gamma = number(xpos, "gamma_hex");
        r->power = number(xpos, "power_hex");
    }
    long count = r->heads * r->pairs * r->axes;
    if (r->head_dim < 1 || count < 0) return "a description that is not understood";
    r->inv_freq = malloc(sizeof(double) * (size_t)(count + 1));
    const char *at = strchr(value(text, "inv_freq_hex"), '[');
    for (long i = 0; i < count; i++) {
        char *end;
        if (!at || !(at = strchr(at, '"'))) return "too few frequencies";
        r->inv_freq[i] = strtod(at + 1, &end);
        at = end + 1;
    }
    return NULL;
}

/* The cosine and sine of pair i of a head at a position (axes numbers of a tensor), times the magnitude. */
static void table(const Rope *r, const Tensor *positions, long token, long head, long i, double *c, double *s)
{
    const double *w = r->inv_freq + ((r->heads == 1 ? 0 : head) * r->pairs + i) * r->axes;
    double angle = 0, m = r->attention_scale;
    for (long a = 0; a < r->axes; a++) {
        double p = get(positions, token * r->axes + a);
#ifdef HALF_POSITIONS
        p = from_16(to_16(p, 7), 7);
#endif
        angle += w[a] * p;
    }
    if (r->has_xpos) {
        double zeta = ((double)i / r->pairs + r->gamma) / (1 + r->gamma);
        m *= pow(zeta, r->power * (get(positions, token) - r->center) / r->scale_base);
    }
    *c = m * cos(angle);
    *s = m * sin(angle);
}

/* y = x (batch, heads, seq, head_dim), turned at positions (batch, seq, axes). */
static void rotate(const Rope *r, const Tensor *x, const Tensor *positions, Tensor *y)
{
    long heads = x->shape[1], seq = x->shape[2], gap = r->interleaved ? 1 : r->pairs, step = r->interleaved ? 2 : 1;
    for (long row = 0; row < x->count / r->head_dim; row++) {
        long at = row * r->head_dim, head = row / seq % heads, token = row / (seq * heads) * seq + row % seq;
        for (long k = 0; k < r->head_dim; k++) put(y, at + k, get(x, at + k)); /* what does not turn passes through */
        for (long i = 0; i < r->pairs; i++) {
            long first = at + r->start + step * i, second = first + gap;
            double c, s, a = get(x, first), b = get(x, second);
            table(r, positions, token, head, i, &c, &s);
            put(y, first, a * c - b * s);
            put(y, second, a * s + b * c);
        }
    }
}
