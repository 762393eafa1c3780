/* A layer of a network for a block of paths: [paths, k] times a matrix [k, n], plus a vector [n].
 *
 * Columns stand one after the other, so that a vector register holds one number of many paths. Four columns of the
 * result are summed at a time in registers: every load then serves four products.
 */
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

template <class Real> struct Many {
    typedef Real Vector __attribute__((vector_size(64)));
    static constexpr int COUNT = 64 / sizeof(Real);
};

template <class Vector, class Real> inline Vector fused(Real a, Vector b, Vector c) { return a * b + c; }
#ifdef __AVX512F__
using Floats = Many<float>::Vector;
using Doubles = Many<double>::Vector;
inline Floats fused(float a, Floats b, Floats c)
{
    return Floats(_mm512_fmadd_ps(_mm512_set1_ps(a), __m512(b), __m512(c)));
}
inline Doubles fused(double a, Doubles b, Doubles c)
{
    return Doubles(_mm512_fmadd_pd(_mm512_set1_pd(a), __m512d(b), __m512d(c)));
}
#endif

/* Columns n, ..., n + COLUMNS - 1 of the result. */
template <int COLUMNS, int K, int N, int LANES, class Real>
inline void columns(int n, const Real (&in)[K][LANES], Real (&out)[N][LANES], const Real *matrix, int64_t by_row,
                    int64_t by_column, const Real *bias, int64_t apart)
{
    using Vector = typename Many<Real>::Vector;
    constexpr int COUNT = LANES / Many<Real>::COUNT;
    Vector sum[COLUMNS][COUNT];
    for (int c = 0; c < COLUMNS; c++)
        for (int v = 0; v < COUNT; v++)
            sum[c][v] = Vector{} + (bias ? bias[(n + c) * apart] : Real(0));
    for (int k = 0; k < K; k++) {
        const Vector *x = reinterpret_cast<const Vector *>(in[k]);
        for (int c = 0; c < COLUMNS; c++) {
            Real weight = matrix[k * by_row + (n + c) * by_column];
            for (int v = 0; v < COUNT; v++)
                sum[c][v] = fused(weight, x[v], sum[c][v]);
        }
    }
    for (int c = 0; c < COLUMNS; c++)
        for (int v = 0; v < COUNT; v++)
            reinterpret_cast<Vector *>(out[n + c])[v] = sum[c][v];
}

template <int K, int N, int LANES, class Real>
inline void layer(const Real (&in)[K][LANES], Real (&out)[N][LANES], const Real *matrix, int64_t by_row,
                  int64_t by_column, const Real *bias = nullptr, int64_t = 0, int64_t apart = 0)
{
    constexpr int TOGETHER = sizeof(Real) == 4 ? 4 : 2;
    for (int n = 0; n + TOGETHER <= N; n += TOGETHER)
        columns<TOGETHER>(n, in, out, matrix, by_row, by_column, bias, apart);
    for (int n = N / TOGETHER * TOGETHER; n < N; n++)
        columns<1>(n, in, out, matrix, by_row, by_column, bias, apart);
}

}  // namespace
