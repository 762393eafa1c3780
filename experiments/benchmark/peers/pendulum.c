/* Pendulum-v1 with random torques, a time limit and auto-reset, as fast as one core goes: the practical roof.
 *
 * One block of paths at a time through all steps, so that its state stays in registers and caches. The angle is kept in
 * [-pi, pi], its sine and cosine come from polynomials, torques and new states from a hash of (path, step).
 * Outputs are structures of arrays: obs [3][T][B], action, reward [T][B], done [T][B] (one byte).
 */
#include <math.h>
#include <stdint.h>

#define BLOCK 64

static inline uint32_t hash(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ (x >> 16);
}

static inline float uniform(uint32_t x) { return (float)(int32_t)hash(x) * 0x1p-31f; } /* in [-1, 1] */

/* Taylor to order 15 about 0, on [-pi/2, pi/2]: below 1e-7. */
static inline float sine_near(float x)
{
    float s = x * x;
    return x * (1.0f + s * (-1.6666667e-1f + s * (8.3333333e-3f + s * (-1.9841270e-4f + s * (2.7557319e-6f + s *
           (-2.5052108e-8f + s * (1.6059044e-10f + s * -7.6471637e-13f)))))));
}

/* On [-pi, pi]: sin(x) = sin(pi - x). */
static inline float sine(float x)
{
    const float half = 1.57079632679f, pi = 3.14159265359f;
    float y = x > half ? pi - x : x;
    return sine_near(x < -half ? -pi - x : y);
}

/* On [-pi, pi]: cos(x) = sin(pi/2 - |x|). */
static inline float cosine(float x) { return sine_near(1.57079632679f - fabsf(x)); }

static inline float clamp(float x, float bound) { return fminf(fmaxf(x, -bound), bound); }

/* `draw` 0 takes the torques from `action` instead of writing random ones there. */
void pendulum(int paths, int steps, int limit, int draw, uint32_t seed, float *restrict angle, float *restrict speed,
              int *restrict count, float *restrict obs, float *restrict action, float *restrict reward,
              uint8_t *restrict done)
{
    const float pi = 3.14159265359f;
    long all = (long)steps * paths;
    for (int first = 0; first < paths; first += BLOCK) {
        int width = paths - first < BLOCK ? paths - first : BLOCK;
        for (int k = 0; k < steps; k++) {
            long at = (long)k * paths + first;
            for (int i = 0; draw && i < width; i++)
                action[at + i] = 2.0f * uniform(seed + 2654435761U * (uint32_t)(first + i) + 3U * (uint32_t)k);
            for (int i = 0; i < width; i++) {
                uint32_t word = seed + 2654435761U * (uint32_t)(first + i) + 3U * (uint32_t)k;
                float th = angle[first + i], om = speed[first + i];
                float u = action[at + i];
                reward[at + i] = -(th * th + 0.1f * om * om + 0.001f * u * u);
                om = clamp(om + 0.05f * (15.0f * sine(th) + 3.0f * u), 8.0f);
                th += 0.05f * om;
                th += th > pi ? -2.0f * pi : 0.0f;
                th += th < -pi ? 2.0f * pi : 0.0f;
                int now = count[first + i] + 1, over = now >= limit;
                th = over ? pi * uniform(word + 1U) : th;
                om = over ? uniform(word + 2U) : om;
                count[first + i] = over ? 0 : now;
                angle[first + i] = th;
                speed[first + i] = om;
                done[at + i] = (uint8_t)over;
                obs[at + i] = cosine(th);
                obs[all + at + i] = sine(th);
                obs[2 * all + at + i] = om;
            }
        }
    }
}
