/* `noise.blocks` in machine code: standard normals of many rows by Philox4x32-10 and two Box-Muller pairs.
 *
 * What it calls stands in elementary.hpp.
 */
namespace {

template <class Real>
void fill(uint64_t low, uint64_t high, uint64_t stream, int64_t first, int64_t count, const int64_t *row, int64_t rows,
          int threads, Real *out)
{
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t j = 0; j < count; j++) {
        Real *z = out + 4 * j * rows;
        normals(low, high, stream, uint64_t(first + j), row, rows, z, z + rows, z + 2 * rows, z + 3 * rows);
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
