/* All control steps of many paths: a block of paths at a time through the whole rollout, its state in the nearest cache.
 *
 * `System` and LANES come before this text, written by lanes.py for one environment and policy; elementary.hpp and
 * normals.hpp before them. Every row does the same operations in a lane of its own, so its bits depend neither on the batch, nor on its
 * place in it, nor on the number of threads.
 */
#include <algorithm>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

using Real = System::Real;

template <int WIDTH, class Kind = Real> using Columns = Kind[WIDTH ? WIDTH : 1][LANES];

struct Call {
    const void *const *given;  /* what the environment and the policy hold */
    const int64_t *row;
    double *t;
    Real *x;                   /* [n, rows] */
    bool *over;
    void *const *out;          /* columns [steps, rows] of records: numbers, then truth values */
    const int64_t *apart;      /* elements from one step to the next in each of them */
    double *clock;             /* time after each step, of the first path; may be null */
    uint64_t low, high;
    int64_t step, steps, rows;
    bool stream;               /* past the cache */
};

/* The last few blocks of four normals of each path in one stream: a step reads `WIDTH` neighbours of a sequence. */
template <int WIDTH, int STREAM> struct Noise {
    static constexpr int HELD = (WIDTH + 6) / 4;
    alignas(64) Columns<4> z[HELD];
    int64_t held[HELD];
    const Real *at[WIDTH ? WIDTH : 1];

    Noise() { std::fill(held, held + HELD, -1); }

    const Real *const *of(const Call &call, const int64_t (&row)[LANES], int64_t step)
    {
        for (int j = 0; j < WIDTH; j++) {
            int64_t element = step * WIDTH + j, block = element / 4;
            int place = int(block % HELD);
            if (held[place] != block) {
                held[place] = block;
                normals(call.low, call.high, STREAM, uint64_t(block), row, LANES, z[place]);
            }
            at[j] = z[place][element % 4];
        }
        return at;
    }
};

/* Some lanes of a column into the result; past the cache where it is too large to stay there anyway. */
template <class Kind> inline void keep(Kind *place, const Kind (&column)[LANES], int count, bool stream)
{
#ifdef __AVX512F__
    if (stream && count == LANES && reinterpret_cast<uintptr_t>(place) % 64 == 0) {
        for (size_t b = 0; b < sizeof column; b += 64)
            _mm512_stream_si512(reinterpret_cast<__m512i *>(reinterpret_cast<char *>(place) + b),
                                _mm512_load_si512(reinterpret_cast<const char *>(column) + b));
        return;
    }
#endif
    if (count == LANES)
        std::memcpy(place, column, sizeof column);
    else
        std::memcpy(place, column, count * sizeof(Kind));
}

inline bool any(const bool *flags)
{
    uint64_t words[LANES / 8], found = 0;
    std::memcpy(words, flags, LANES);
    for (uint64_t word : words)
        found |= word;
    return found;
}

enum Stream { PROCESS, ACTION, INITIAL };

void block(const Call &call, int64_t first)
{
    const int count = int(std::min<int64_t>(LANES, call.rows - first));
    auto at = [&](int i) { return first + std::min(i, count - 1); };  /* lanes beyond the end repeat the last path */
    alignas(64) Columns<1, double> t, fresh_t;
    alignas(64) Columns<System::STATES> x, fresh_x;
    alignas(64) Columns<System::OBSERVED> obs, fresh_obs;
    alignas(64) Columns<1, bool> over;
    alignas(64) Columns<System::NUMBERS> number;
    alignas(64) Columns<System::FLAGS, bool> flag;
    int64_t row[LANES];
    Noise<System::PROCESS_WIDTH, PROCESS> process;
    Noise<System::ACTION_WIDTH, ACTION> action;
    Noise<System::INITIAL_WIDTH, INITIAL> initial;
    for (int i = 0; i < LANES; i++) {
        row[i] = call.row[at(i)], t[0][i] = call.t[at(i)], over[0][i] = call.over[at(i)];
        for (int c = 0; c < System::STATES; c++)
            x[c][i] = call.x[c * call.rows + at(i)];
    }
    System::observe(call.given, at, t, x, obs);
    for (int64_t k = 0; k < call.steps; k++) {
        const Real *const *z = process.of(call, row, call.step + k), *const *v = action.of(call, row, call.step + k);
        System::step(call.given, at, t, x, obs, over, z, v, number, flag);
        for (int c = 0; c < System::NUMBERS; c++)
            keep(static_cast<Real *>(call.out[c]) + k * call.apart[c] + first, number[c], count, call.stream);
        for (int c = 0, o = System::NUMBERS; c < System::FLAGS; c++, o++)
            keep(static_cast<bool *>(call.out[o]) + k * call.apart[o] + first, flag[c], count, call.stream);
        if (call.clock && first == 0)
            call.clock[k] = t[0][0];
        if constexpr (System::LAST >= 0) {
            const bool *last = flag[System::LAST];
            if (any(last)) {
                System::fresh(call.given, at, initial.of(call, row, call.step + k + 1), fresh_t, fresh_x, fresh_obs);
                uint8_t ends[LANES];  /* gcc makes no mask of truth values that it reads */
                std::memcpy(ends, last, LANES);
                for (int i = 0; i < LANES; i++)
                    t[0][i] = ends[i] ? fresh_t[0][i] : t[0][i];
                for (int c = 0; c < System::STATES; c++)
                    for (int i = 0; i < LANES; i++)
                        x[c][i] = ends[i] ? fresh_x[c][i] : x[c][i];
                for (int c = 0; c < System::OBSERVED; c++)
                    for (int i = 0; i < LANES; i++)
                        obs[c][i] = ends[i] ? fresh_obs[c][i] : obs[c][i];
            }
        }
    }
    for (int i = 0; i < count; i++) {
        call.t[first + i] = t[0][i], call.over[first + i] = over[0][i];
        for (int c = 0; c < System::STATES; c++)
            call.x[c * call.rows + first + i] = x[c][i];
    }
#ifdef __AVX512F__
    _mm_sfence();  /* what went past the cache is there for other threads too */
#endif
}

}  // namespace

extern "C" void run(const void *const *given, const int64_t *row, double *t, void *x, bool *over, void *const *out,
                    const int64_t *apart, double *clock, uint64_t low, uint64_t high, int64_t step, int64_t steps,
                    int64_t rows, bool stream, int threads)
{
    Call call{given, row, t, static_cast<Real *>(x), over, out, apart, clock, low, high, step, steps, rows, stream};
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < rows; first += LANES)
        block(call, first);
}
