/* Counter-based standard normals: Philox4x32-10 and two Box-Muller pairs, as `noise.blocks` has them.
 *
 * What it calls stands in elementary.hpp.
 */
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

/* One word of several counters, each in a lane of 64 bits of which only the lower half counts: so one product gives both
 * halves in its place. No compiler is trusted to find the instruction for it: gcc takes one that costs three. */
#if defined(__AVX512F__)
using Word = uint64_t __attribute__((vector_size(64)));
INLINE Word product(Word a, uint64_t b) { return Word(_mm512_mul_epu32(__m512i(a), _mm512_set1_epi64(int64_t(b)))); }
#elif defined(__AVX2__)
using Word = uint64_t __attribute__((vector_size(32)));
INLINE Word product(Word a, uint64_t b) { return Word(_mm256_mul_epu32(__m256i(a), _mm256_set1_epi64x(int64_t(b)))); }
#else
using Word = uint64_t __attribute__((vector_size(16)));
INLINE Word product(Word a, uint64_t b) { return (a & 0xFFFFFFFF) * b; }
#endif

constexpr int COUNTERS = sizeof(Word) / sizeof(uint64_t), ROWS = 64;

/* Four words become four random words. */
INLINE void philox(Word (&w)[4], uint64_t k0, uint64_t k1)
{
    #pragma GCC unroll 10
    for (int n = 0; n < 10; n++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        Word low = product(w[0], 0xD2511F53), high = product(w[2], 0xCD9E8D57);
        w[0] = (high >> 32) ^ w[1] ^ k0, w[1] = high;
        w[2] = (low >> 32) ^ w[3] ^ k1, w[3] = low;
    }
}

/* sin(pi h) and cos(pi h) for |h| <= 1/2, in float at Chebyshev's nodes, 3e-8, in double Taylor's series, below 1e-16. */
INLINE void half(float h, float &sine, float &cosine)
{
    float z = h * h;
    sine = h * series(z, 0.07765766f, -0.5982913f, 2.5500774f, -5.1677103f, 3.1415927f);
    cosine = series(z, -0.024396325f, 0.23493731f, -1.335212f, 4.058709f, -4.934802f, 1.0f);
}
INLINE void half(double h, double &sine, double &cosine)
{
    double x = M_PI * h, z = x * x, odd = 1, even = 1;
    #pragma GCC unroll 11
    for (int n = 22; n > 0; n -= 2)
        odd = fused(odd * z, -1.0 / (n * (n + 1)), 1.0), even = fused(even * z, -1.0 / (n * (n - 1)), 1.0);
    sine = x * odd, cosine = even;
}

/* Box-Muller: radius sqrt(-2 log u) at the angle of v turns, whose cosine and sine come from those of half the angle. */
template <class Real> INLINE void pair(uint32_t u, uint32_t v, Real &first, Real &second)
{
    constexpr Real SCALE = Real(0x1p-32), MIDDLE = Real(0x1p-33);
    Real radius = std::sqrt(Real(-2) * logarithm(fused(Real(u), SCALE, MIDDLE)));
    Real turns = fused(Real(v), SCALE, MIDDLE), s, c;
    half(turns - std::rint(turns), s, c);
    Real twice = Real(2) * radius * s;
    first = fused(-twice, s, radius);
    second = twice * c;
}

/* Block number `block` of the sequences of the first `count` of 64 rows: four neighbours each, in four columns. */
template <class Real>
INLINE void normals(uint64_t low, uint64_t high, uint64_t stream, uint64_t block, const int64_t (&row)[ROWS], int count,
                    Real (&z)[4][ROWS])
{
    alignas(64) uint32_t word[4][ROWS];
    for (int i = 0; i < count; i += COUNTERS) {
        Word number;
        std::memcpy(&number, row + i, sizeof number);
        Word w[4] = {number, Word{} + block, Word{} + (block >> 32), (number >> 32) * 256 + stream};
        philox(w, low, high);
        for (int j = 0; j < 4; j++)
            for (int n = 0; n < COUNTERS; n++)
                word[j][i + n] = uint32_t(w[j][n]);
    }
    #pragma omp simd
    for (int i = 0; i < count; i++) {
        pair(word[0][i], word[1][i], z[0][i], z[1][i]);
        pair(word[2][i], word[3][i], z[2][i], z[3][i]);
    }
}

}  // namespace
