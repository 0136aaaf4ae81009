/* Rounding an array to a format (SPEC, Schemes and Randomness): CUDA C that a C compiler takes too.
 *
 * REAL is float or double. Four elements share the words of one Philox block, and a thread rounds four at a time. There
 * must be no fused multiply-add.
 */

#ifdef __CUDACC__
#define FUNCTION static __device__ __forceinline__
#define HIGH(a, b) __umulhi(a, b)
#define UNROLLED _Pragma("unroll")
#else
#include <math.h>
#define FUNCTION static inline
#define UNROLLED
#define HIGH(a, b) (unsigned)((unsigned long long)(a) * (b) >> 32)
#endif

#define DIMENSIONS 32
#define GROUP 4

typedef long long Shape[DIMENSIONS];

/* What a call is about; `srlib.gpu` fills it in. */
typedef struct {
    const char *x, *v; /* no v: its sign is 0 everywhere */
    char *out;
    long long rows, row;    /* replicates, and elements of each */
    long long first, step;  /* numbers of the replicates */
    unsigned long long draw, seed;
    double smallest_normal;
    double to_integer, from_integer; /* 2^(p - 2), 2^(1 - p) */
    double below;                    /* the smallest normal number where there are no subnormals, else 0 */
    double largest, overflow;
    double positive, negative; /* of deterministic schemes: away where theta is above that of the sign of x */
    double eps; /* of the others: away with probability theta + eps, with v theta - sign(x) sign(v) eps */
    long long bits; /* of a word that are used, 0 for schemes without words */
    long long floored; /* whether the threshold is that below, and not the nearest */
    long long origin; /* the number of the first element within a replicate */
    long long wide; /* whether groups are aligned and contiguous in all arrays */
    long long dimensions;
    Shape shape, x_strides, v_strides, out_strides; /* strides in bytes */
} Task;

typedef struct {
    unsigned word[GROUP];
} Words;

typedef struct {
    __attribute__((aligned(16))) REAL value[GROUP];
} Group;

FUNCTION Words philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1)
{
    for (int round = 0; round < 10; round++) {
        unsigned low0 = 0xD2511F53u * c0, low1 = 0xCD9E8D57u * c2;
        unsigned high0 = HIGH(0xD2511F53u, c0), high1 = HIGH(0xCD9E8D57u, c2);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

/* 2^exponent, for that of a normal number. */
FUNCTION REAL power_of_two(int exponent)
{
    if (sizeof(REAL) == 4) {
        union { unsigned bits; float value; } number = {(unsigned)(exponent + 127) << 23};
        return (REAL)number.value;
    }
    union { unsigned long long bits; double value; } number = {(unsigned long long)(exponent + 1023) << 52};
    return (REAL)number.value;
}

/* The exponent of a finite number, if it is at least that of the smallest normal ones; of 0 and others less. */
FUNCTION int exponent_of(REAL magnitude)
{
    if (sizeof(REAL) == 4) {
        union { float value; unsigned bits; } number = {(float)magnitude};
        return (int)(number.bits >> 23) - 127;
    }
    union { double value; unsigned long long bits; } number = {(double)magnitude};
    return (int)(number.bits >> 52) - 1023;
}

/* Whether the uniform number made of a word is below the threshold nint(2^bits P), or the floor of that. */
FUNCTION int is_below(REAL probability, unsigned word, int bits, int floored)
{
    REAL scale = power_of_two(bits), exact = probability * scale;
    REAL threshold = floored ? (REAL)floor(exact) : (REAL)rint(exact);
    return threshold >= scale || (threshold > 0 && (word >> (32 - bits)) < (unsigned)threshold);
}

FUNCTION REAL round_one(const Task *task, REAL x, REAL v, unsigned word)
{
    REAL magnitude = (REAL)fabs(x);
    if (magnitude - magnitude != 0) /* not finite */
        return x == x ? (REAL)copysign((REAL)task->overflow, x) : x;
    int exponent = exponent_of(magnitude), lowest = exponent_of((REAL)task->smallest_normal);
    int deep = magnitude < (REAL)task->below;
    if (exponent < lowest)
        exponent = lowest;
    /* Two factors, as their product can be too large for the carrier; exactly what the other kernels do. */
    REAL scaled = magnitude * power_of_two(1 - exponent) * (deep ? (REAL)0.5 : (REAL)task->to_integer);
    REAL significand = (REAL)floor(scaled), theta = scaled - significand;
    REAL gap = (deep ? (REAL)1 : (REAL)task->from_integer) * power_of_two(exponent), lower = significand * gap;
    int away, inward = 0; /* inward: always toward zero, so that a finite number stays finite */
    if (task->bits) {
        int sign = task->v ? ((v < 0) - (v > 0)) * (x < 0 ? -1 : 1) : 1;
        away = is_below(theta + (REAL)sign * (REAL)task->eps, word, (int)task->bits, (int)task->floored);
    } else {
        REAL threshold = x < 0 ? (REAL)task->negative : (REAL)task->positive, half = significand * (REAL)0.5;
        away = theta > threshold || (theta == threshold && half != (REAL)floor(half));
        inward = threshold > 1;
    }
    REAL rounded = away && lower != magnitude ? lower + gap : lower;
    REAL largest = (REAL)task->largest, overflow = inward ? largest : (REAL)task->overflow;
    return (REAL)copysign(rounded <= largest ? rounded : overflow, x);
}

FUNCTION long long offset(const Task *task, const long long *strides, long long element)
{
    long long bytes = 0;
    for (int axis = (int)task->dimensions - 1; axis >= 0; axis--) {
        bytes += element % task->shape[axis] * strides[axis];
        element /= task->shape[axis];
    }
    return bytes;
}

FUNCTION long long groups_of(const Task *task)
{
    return (task->origin % GROUP + task->row + GROUP - 1) / GROUP;
}

/* Round a group of elements of a replicate: one group of words for it, and one access of 16 bytes where possible. */
FUNCTION void round_group(const Task *task, long long index)
{
    long long groups = groups_of(task), replicate = index / groups, group = index % groups;
    long long first = group * GROUP - task->origin % GROUP, left = task->row - first;
    long long start = replicate * task->row + first;
    int skip = first < 0 ? (int)-first : 0, count = left < GROUP ? (int)left : GROUP;
    int wide = task->wide && count == GROUP;
    Words words = {{0, 0, 0, 0}};
    Group x, v = {{0, 0, 0, 0}}, out;
    if (task->bits)
        words = philox((unsigned)(task->origin / GROUP + group), (unsigned)task->draw, (unsigned)(task->draw >> 32),
                       (unsigned)(task->first + replicate * task->step), (unsigned)task->seed,
                       (unsigned)(task->seed >> 32));
    if (wide) {
        x = ((const Group *)task->x)[start / GROUP];
        if (task->v)
            v = ((const Group *)task->v)[start / GROUP];
        UNROLLED for (int i = 0; i < GROUP; i++)
            out.value[i] = round_one(task, x.value[i], v.value[i], words.word[i]);
        ((Group *)task->out)[start / GROUP] = out;
        return;
    }
    UNROLLED for (int i = 0; i < GROUP; i++) {
        if (i < skip || i >= count)
            continue;
        REAL value = *(const REAL *)(task->x + offset(task, task->x_strides, start + i));
        REAL direction = task->v ? *(const REAL *)(task->v + offset(task, task->v_strides, start + i)) : (REAL)0;
        *(REAL *)(task->out + offset(task, task->out_strides, start + i)) =
            round_one(task, value, direction, words.word[i]);
    }
}

#ifdef __CUDACC__
extern "C" __global__ void round_array(const __grid_constant__ Task task)
{
    long long groups = task.rows * ((task.row + GROUP - 1) / GROUP), stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < groups; i += stride)
        round_group(&task, i);
}
#else
void round_array(const Task *task)
{
    for (long long i = 0; i < task->rows * groups_of(task); i++)
        round_group(task, i);
}
#endif
