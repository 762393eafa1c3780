/* Elementary functions for one lane, written so that a loop over lanes fills vector registers.
 *
 * In float they are series within about an ulp of torch's; in double, where they serve proofs, those of the C library.
 */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

/* A call that is left standing keeps a whole loop out of vector registers. */
#define INLINE inline __attribute__((always_inline))

namespace {

template <class Real> struct Bits;
template <> struct Bits<float> { using Whole = int32_t; static constexpr int fraction = 23; };
template <> struct Bits<double> { using Whole = int64_t; static constexpr int fraction = 52; };

template <class To, class From> INLINE To as(From value)
{
    To found;
    static_assert(sizeof found == sizeof value);
    std::memcpy(&found, &value, sizeof value);
    return found;
}

/* Not a number stays so. */
template <class Real> INLINE Real maximum_(Real a, Real b) { return a > b || a != a ? a : b; }
template <class Real> INLINE Real minimum_(Real a, Real b) { return a < b || a != a ? a : b; }

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FUSED
#endif

/* a b + c, rounded once where the machine can: the same in a whole vector and alone, unlike what a compiler contracts. */
template <class Real> INLINE Real fused(Real a, Real b, Real c)
{
#ifdef FUSED
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* A polynomial, its highest coefficient first. */
template <class Real> INLINE Real series(Real, Real sum) { return sum; }
template <class Real, class... Rest> INLINE Real series(Real x, Real sum, Real next, Rest... rest)
{
    return series(x, fused(sum, x, next), rest...);
}

/* log(m) for m in [sqrt(1/2), sqrt(2)): x - x^2/2 + x^3 p(x), p at Chebyshev's nodes, 2.5e-8 of it; in double
 * 2 artanh((m - 1) / (m + 1)). */
INLINE float logarithm_near(float m)
{
    float x = m - 1, z = x * x;
    float p = series(x, -0.081015583f, 0.127123077f, -0.12972239f, 0.142021738f, -0.166422476f, 0.200014686f,
                     -0.250002965f, 0.333333286f);
    return x + fused(x * z, p, -0.5f * z);
}
INLINE double logarithm_near(double m)
{
    double s = (m - 1) / (m + 1), z = s * s, sum = 0;
    #pragma GCC unroll 11
    for (int n = 21; n > 0; n -= 2)
        sum = fused(sum, z, 1.0 / n);
    return 2 * s * sum;
}

/* log(u) of a normal number u = m 2^e. */
template <class Real> INLINE Real logarithm(Real u)
{
    using Whole = typename Bits<Real>::Whole;
    constexpr int fraction = Bits<Real>::fraction;
    Whole bits = as<Whole>(u), e = (bits - as<Whole>(Real(M_SQRT1_2))) >> fraction;
    Real m = as<Real>(Whole(bits - e * (Whole(1) << fraction)));
    return fused(Real(e), Real(M_LN2), logarithm_near(m));
}

/* Sine and cosine on [-pi/4, pi/4]: their first terms and a polynomial at Chebyshev's nodes, 1e-8. */
INLINE float sine(float x)
{
    float z = x * x;
    return fused(x * z, series(z, -0.00019587824f, 0.008332748f, -0.16666664f), x);
}
INLINE float cosine(float x)
{
    float z = x * x;
    return fused(z * z, series(z, 2.5500174e-05f, -0.001389565f, 0.04166678f), fused(z, -0.5f, 1.0f));
}

/* The sine of x + turn pi/2. Quarters are taken off in three parts of pi/2, each product exact until it is added;
 * beyond 2^24 quarters the angle is lost, as in float it is before, and the value stays bounded. */
INLINE float sine_of(float x, int turn)
{
    float quarters = std::rint(x * float(M_2_PI));
#ifdef FUSED
    float near = fused(-quarters, 1.57079637f, x);
    near = fused(-quarters, -4.37113883e-08f, near);
    near = fused(-quarters, -1.71512451e-15f, near);
#else
    float near = float(double(x) - double(quarters) * M_PI_2);
#endif
    near = maximum_(minimum_(near, 1.0f), -1.0f);
    float s = sine(near), c = cosine(near);
    int place = int(quarters) + turn;
    float value = place & 1 ? c : s;
    return place & 2 ? -value : value;
}
INLINE float sin_(float x) { return sine_of(x, 0); }
INLINE float cos_(float x) { return sine_of(x, 1); }

/* 2^n exp(r) with |r| <= log(2) / 2; the power is taken in two halves, so that it may leave the normal numbers. */
INLINE float exp_(float x)
{
    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float n = std::rint(x * float(M_LOG2E));
    float r = fused(-n, -1.90465421e-09f, fused(-n, 0.693147182f, x));
    float sum = series(r, 1 / 5040.0f, 1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1.0f, 1.0f);
    int whole = int(n), half = whole >> 1;
    return sum * as<float>((half + 127) << 23) * as<float>((whole - half + 127) << 23);
}

INLINE float log_(float x)
{
    float usual = logarithm(x < 1.1754944e-38f ? x * 16777216.0f : x);  /* numbers below the normal ones are scaled */
    usual = x < 1.1754944e-38f ? usual - float(24 * M_LN2) : usual;
    usual = x == INFINITY ? INFINITY : usual;
    return x > 0 ? usual : x == 0 ? -INFINITY : NAN;
}

/* Near 0 its series in x^2 (Chebyshev's nodes, 1.4e-9), else through exp(x^2) erfc(x), a polynomial in 1 / (1 + x). */
INLINE float erf_(float x)
{
    float size = std::fabs(x), z = x * x, u = 1.0f / (1.0f + size);
    float near = x * series(z, 7.8824971e-05f, -0.0008018854991f, 0.0051893119425f, -0.026854328796f, 0.1128359746349f,
                            -0.376126269036f, 1.1283791658815f);
    float far = 1.0f - exp_(-z) * series(u, -0.17562392447f, 0.9121297101f, -1.49560000876f, 0.71616913f,
                                         0.4781028874857f, 0.573311695557f, -0.000404049728f);
    return size < 1.0f ? near : x < 0 ? -far : far;
}

INLINE float sigmoid_(float x) { return 1.0f / (1.0f + exp_(-x)); }

/* A quotient of polynomials in x^2, fitted for the least relative error on [0, 9], 2e-8; beyond, tanh is 1 in float. */
INLINE float tanh_(float x)
{
    x = maximum_(minimum_(x, 9.0f), -9.0f);
    float z = x * x;
    float above = series(z, 1.33369012e-08f, 2.05964102e-05f, 0.00349482418f, 0.133803844f, 0.99999998f);
    float below = series(z, 7.76933263e-07f, 0.000328438118f, 0.0258740821f, 0.467136999f, 1.0f);
    return maximum_(minimum_(x * above / below, 1.0f), -1.0f);
}

/* Where erf is x: Winitzki's approximation, good to a thousandth, and three of Halley's steps. */
INLINE double erfinv_(double x)
{
    double size = std::fabs(x), far = std::log1p(-size * size), half = 4.330746750799873 + 0.5 * far;
    double y = std::sqrt(std::sqrt(half * half - far * 6.802721088435374) - half);
    for (int n = 0; n < 3; n++) {
        double rest = (std::erf(y) - size) * std::exp(y * y) * 0.886226925452758;
        y -= rest / (1.0 + y * rest);
    }
    return size < 1.0 ? (x < 0 ? -y : y) : size == 1.0 ? x * INFINITY : NAN;
}
INLINE float erfinv_(float x) { return float(erfinv_(double(x))); }

/* Its series near 0, where exp(x) - 1 would lose what counts. */
INLINE float expm1_(float x)
{
    float near = x * series(x, 1 / 40320.0f, 1 / 5040.0f, 1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1.0f);
    return std::fabs(x) < 0.5f ? near : exp_(x) - 1.0f;
}

/* log(u) for u = 1 + x as it was rounded, corrected by what was lost. */
INLINE float log1p_(float x)
{
    float u = 1.0f + x, lost = x / (u - 1.0f);
    float value = log_(u) * (u > 1e8f ? 1.0f : lost);
    return u == 1.0f ? x : value;
}

/* Exact below 2^29 times b, as products of floats are in double. */
INLINE float remainder_(float a, float b)
{
    double rest = double(a) - std::floor(double(a) / double(b)) * double(b);
    return float(rest != 0 && (rest < 0) != (b < 0) ? rest + double(b) : rest);
}

INLINE float tan_(float x) { return sin_(x) / cos_(x); }

/* Through the half angle, whose square leaves the range of float only where the value does. */
INLINE float cosh_(float x)
{
    float half = exp_(0.5f * std::fabs(x));
    return 0.5f * half * half + 0.5f / (half * half);
}
INLINE float sinh_(float x)
{
    float size = std::fabs(x), z = x * x, half = exp_(0.5f * size);
    float near = x * series(z, 1 / 362880.0f, 1 / 5040.0f, 1 / 120.0f, 1 / 6.0f, 1.0f);
    float far = 0.5f * half * half - 0.5f / (half * half);
    return size < 1.0f ? near : x < 0 ? -far : far;
}

/* On [0, 1] x times a polynomial in x^2 at Chebyshev's nodes, 3e-8; beyond, pi/2 less that of 1 / x. */
INLINE float atan_(float x)
{
    float size = std::fabs(x), inside = size > 1.0f ? 1.0f / size : size;
    float near = inside * series(inside * inside, -0.0017437012f, 0.010680719f, -0.030717509f, 0.057463557f,
                                 -0.08372064f, 0.109401986f, -0.14261574f, 0.1999823f, -0.33333284f, 1.0f);
    float value = size > 1.0f ? float(M_PI_2) - near : near;
    return x < 0 ? -value : value;
}

#define BY_LIBRARY(name) \
    INLINE double name##_(double x) { return std::name(x); }
BY_LIBRARY(sin) BY_LIBRARY(cos) BY_LIBRARY(exp) BY_LIBRARY(log) BY_LIBRARY(erf) BY_LIBRARY(tanh) BY_LIBRARY(expm1)
BY_LIBRARY(log1p) BY_LIBRARY(sinh) BY_LIBRARY(cosh) BY_LIBRARY(tan) BY_LIBRARY(atan)
INLINE double sigmoid_(double x) { return 1.0 / (1.0 + std::exp(-x)); }
#undef BY_LIBRARY

#define IN_DOUBLE(name) \
    INLINE double name##_(double x) { return std::name(x); } \
    INLINE float name##_(float x) { return float(std::name(double(x))); }
IN_DOUBLE(asin) IN_DOUBLE(acos) IN_DOUBLE(asinh) IN_DOUBLE(acosh) IN_DOUBLE(atanh) IN_DOUBLE(erfc) IN_DOUBLE(exp2) IN_DOUBLE(log2)
#undef IN_DOUBLE

template <class Real> INLINE Real sqrt_(Real x) { return std::sqrt(x); }
template <class Real> INLINE Real rsqrt_(Real x) { return 1 / std::sqrt(x); }
template <class Real> INLINE Real abs_(Real x) { return x < 0 ? -x : x == 0 ? Real(0) : x; }
template <class Real> INLINE Real floor_(Real x) { return std::floor(x); }
template <class Real> INLINE Real ceil_(Real x) { return std::ceil(x); }
template <class Real> INLINE Real trunc_(Real x) { return std::trunc(x); }
template <class Real> INLINE Real round_(Real x) { return std::rint(x); }
template <class Real> INLINE Real sign_(Real x) { return Real(x > 0) - Real(x < 0); }
template <class Real> INLINE Real reciprocal_(Real x) { return 1 / x; }
template <class Real> INLINE Real relu_(Real x) { return x < 0 ? Real(0) : x; }
template <class Real> INLINE Real pow_(Real a, Real b) { return Real(std::pow(double(a), double(b))); }
template <class Real> INLINE Real hypot_(Real a, Real b) { return Real(std::sqrt(double(a) * a + double(b) * b)); }
template <class Real> INLINE Real remainder_(Real a, Real b)
{
    Real rest = std::fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

/* Element i of n, counted from the end where i < 0; -1 beyond both ends, where there is no number. */
INLINE int64_t place_in(int64_t i, int64_t n)
{
    i = i < 0 ? i + n : i;
    return i < n ? std::max(i, int64_t(-1)) : -1;
}
template <class Kind> INLINE Kind no_number() { return std::numeric_limits<Kind>::quiet_NaN(); }

}  // namespace
