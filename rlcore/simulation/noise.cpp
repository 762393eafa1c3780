/* `noise.blocks` in machine code: standard normals of many rows by Philox4x32-10 and two Box-Muller pairs.
 *
 * Elementary functions are series here, so that the whole loop over the rows fills vector registers.
 */
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr uint64_t MASK = 0xFFFFFFFF;

/* Four words in 64-bit lanes, of which only the lower halves count: so one product gives both halves in its place. */
struct Words { uint64_t a, b, c, d; };

inline Words philox(Words w, uint64_t k0, uint64_t k1)
{
    #pragma GCC unroll 10
    for (int n = 0; n < 10; n++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        uint64_t low = (w.a & MASK) * 0xD2511F53, high = (w.c & MASK) * 0xCD9E8D57;
        w = {(high >> 32) ^ w.b ^ k0, high, (low >> 32) ^ w.d ^ k1, low};
    }
    return w;
}

template <class Real> struct Bits;
template <> struct Bits<float> { using Whole = int32_t; static constexpr int fraction = 23; };
template <> struct Bits<double> { using Whole = int64_t; static constexpr int fraction = 52; };

/* log(u) of a normal number: u = m 2^e with m in [sqrt(1/2), sqrt(2)), log(m) = 2 artanh((m - 1) / (m + 1)). */
template <class Real> inline Real logarithm(Real u)
{
    using Whole = typename Bits<Real>::Whole;
    constexpr int fraction = Bits<Real>::fraction;
    const Real root = Real(M_SQRT1_2);
    Real m;
    Whole bits, least;
    std::memcpy(&bits, &u, sizeof u);
    std::memcpy(&least, &root, sizeof u);
    Whole e = (bits - least) >> fraction;
    bits -= e << fraction;
    std::memcpy(&m, &bits, sizeof u);
    Real s = (m - 1) / (m + 1), z = s * s, sum = Real(1.0 / 21);
    #pragma GCC unroll 10
    for (int n = 19; n > 0; n -= 2)
        sum = sum * z + Real(1) / Real(n);
    return Real(e) * Real(M_LN2) + 2 * s * sum;
}

/* Sine and cosine on [-pi/4, pi/4] by Taylor's series, below 1e-16. */
template <class Real> inline Real sine(Real x)
{
    Real z = x * x, sum = 1;
    #pragma GCC unroll 7
    for (int n = 15; n > 1; n -= 2)
        sum = 1 - sum * z * (Real(1) / Real(n * (n - 1)));
    return x * sum;
}

template <class Real> inline Real cosine(Real x)
{
    Real z = x * x, sum = 1;
    #pragma GCC unroll 8
    for (int n = 16; n > 0; n -= 2)
        sum = 1 - sum * z * (Real(1) / Real(n * (n - 1)));
    return sum;
}

/* Box-Muller: radius sqrt(-2 log u) at the angle of v turns, reduced to the nearest quarter. */
template <class Real> inline void pair(uint64_t u, uint64_t v, Real &first, Real &second)
{
    Real radius = std::sqrt(Real(-2) * logarithm((Real(uint32_t(u)) + Real(0.5)) * Real(0x1p-32)));
    Real quarters = (Real(uint32_t(v)) + Real(0.5)) * Real(0x1p-30), nearest = std::rint(quarters);
    Real x = (quarters - nearest) * Real(M_PI_2), c = cosine(x), s = sine(x);
    int32_t turned = int32_t(nearest);
    first = ((turned + 1) & 2 ? -radius : radius) * (turned & 1 ? s : c);
    second = (turned & 2 ? -radius : radius) * (turned & 1 ? c : s);
}

template <class Real>
void fill(uint64_t low, uint64_t high, uint64_t stream, int64_t first, int64_t count, const int64_t *row, int64_t rows,
          int threads, Real *out)
{
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t j = 0; j < count; j++) {
        uint64_t block = uint64_t(first + j);
        Real *a = out + 4 * j * rows, *b = a + rows, *c = b + rows, *d = c + rows;
        #pragma omp simd
        for (int64_t i = 0; i < rows; i++) {
            uint64_t number = uint64_t(row[i]);
            Words w = philox({number, block, block >> 32, (number >> 32) * 256 + stream}, low, high);
            Real za, zb, zc, zd;
            pair(w.a, w.b, za, zb);
            pair(w.c, w.d, zc, zd);
            a[i] = za, b[i] = zb, c[i] = zc, d[i] = zd;
        }
    }
}

}  // namespace

#define EXPORT(name, Real) \
    extern "C" void name(uint64_t low, uint64_t high, uint64_t stream, int64_t first, int64_t count, \
                         const int64_t *row, int64_t rows, int threads, Real *out) \
    { \
        fill(low, high, stream, first, count, row, rows, threads, out); \
    }
EXPORT(normals_float32, float)
EXPORT(normals_float64, double)
