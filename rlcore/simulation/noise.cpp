/* `noise.blocks` in machine code, for many rows; what it calls stands in normals.hpp. */
#include <algorithm>

namespace {

template <class Real>
void fill(uint64_t low, uint64_t high, uint64_t stream, int64_t first, int64_t count, const int64_t *row, int64_t rows,
          int threads, Real *out)
{
    #pragma omp parallel for collapse(2) num_threads(threads) if (threads > 1)
    for (int64_t at = 0; at < rows; at += ROWS)
        for (int64_t j = 0; j < count; j++) {
            const int taken = int(std::min<int64_t>(ROWS, rows - at));
            int64_t some[ROWS] = {};
            alignas(64) Real z[4][ROWS];
            std::copy(row + at, row + at + taken, some);
            normals(low, high, stream, uint64_t(first + j), some, taken, z);
            for (int c = 0; c < 4; c++)
                std::copy(z[c], z[c] + taken, out + (4 * j + c) * rows + at);
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
