// exp, log1p, tanh and the normal distribution for the compiled CPU backend, without branches or tables, so that
// compilers vectorise the loops around them. They are declared in the namespace of activation.cuh, where they replace
// the C library's; include this file first. T is float or double.
//
// They are right within a few units in the last place where results are normal numbers; below these, exp gives the
// smallest normal number instead of a subnormal one. NaN stays NaN.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fast_math {

// The constants of each type. Adding `magic` to x and subtracting it again rounds x to a whole number, which stands in
// the lowest bits of the sum.
template <typename T> struct Traits;
template <> struct Traits<float> {
    typedef uint32_t integer;  // the shift below is meant to lose bits
    static constexpr float magic = 12582912.0f, lowest = -87.33654f, highest = 88.72283f;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23, bias = 127;
    static inline float tail(float r) {  // e^r - 1 - r - r^2/2, over r^3
        return 1.6666667e-1f +
               r * (4.1666668e-2f +
                    r * (8.3333310e-3f + r * (1.3888764e-3f + r * (1.9841270e-4f + r * 2.4801587e-5f))));
    }
    static constexpr int log_terms = 8;
    static constexpr float normal_middle = 4, farthest = 13.21639f;
    static inline float normal_tail(float t) {
        return 0.377642574f + t * (-0.115127009f + t * (0.0415937754f + t * (0.00352220593f + t * (-0.0164217038f +
               t * (0.0113452951f + t * (-0.00366879575f + t * (-0.000136602486f + t * (0.000515039357f +
               t * 5.69923437e-5f))))))));
    }
};
template <> struct Traits<double> {
    typedef uint64_t integer;
    static constexpr double magic = 6755399441055744.0, lowest = -708.39641853226408, highest = 709.78271289338397;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr int mantissa = 52, bias = 1023;
    static inline double tail(double r) {
        return 1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040 + r * (1.0 / 40320 +
               r * (1.0 / 362880 + r * (1.0 / 3628800 + r * (1.0 / 39916800 + r * (1.0 / 479001600 +
               r * (1.0 / 6227020800.0 + r * (1.0 / 87178291200.0)))))))))));
    }
    static constexpr int log_terms = 17;
    static constexpr double normal_middle = 5, farthest = 37.64031928;
    static inline double normal_tail(double t) {
        return 0.36536669863127989 + t * (-0.10452860019150978 + t * (0.052289979290978150 +
               t * (-0.012719205027109204 + t * (-0.0078369441539303294 + t * (0.012549247310808507 +
               t * (-0.0091299689092444550 + t * (0.0042967894126204013 + t * (-0.0012021666267506860 +
               t * (3.9412893382191189e-5 + t * (0.00012164406105972658 + t * (-3.9965229295646729e-5 +
               t * (-5.7621879045798205e-6 + t * (6.4767287613274266e-6 + t * (-2.1862085168646321e-7 +
               t * (-9.1797479015567368e-7 + t * (1.1085757583470550e-7 + t * (1.3435779739680198e-7 +
               t * (-1.8659299121956730e-8 + t * (-1.8742149520531587e-8 + t * (1.4570025723365724e-9 +
               t * 1.6013998207961718e-9))))))))))))))))))));
    }
};

// x = n ln 2 + r with n whole and |r| <= ln(2)/2: 2^n, and e^r - 1.
template <typename T> inline T split(T x, T& power) {
    typedef Traits<T> t;
    const T shifted = x * T(1.4426950408889634) + t::magic;
    const T n = shifted - t::magic;
    const T r = (x - n * t::ln2_high) - n * t::ln2_low;
    typename t::integer bits;
    std::memcpy(&bits, &shifted, sizeof(T));
    bits = (bits + t::bias) << t::mantissa;
    std::memcpy(&power, &bits, sizeof(T));
    return r + r * r * (T(0.5) + r * t::tail(r));
}

// e^(x/2), squared: for the largest x, n would be 128 (1024), and 2^n is no finite number.
template <typename T> inline T exp(T x) {
    typedef Traits<T> t;
    const T low = x < t::lowest ? t::lowest : x;
    const T clamped = low > t::highest ? t::highest : low;
    const T half = T(0.5) * clamped;
    T power;
    const T e = split(half, power);
    const T root = power + power * e;
    const T result = root * root;
    return x > t::highest ? T(INFINITY) : result;
}

template <typename T> inline T exp_of_negative(T x) {  // x <= 0, so nothing overflows
    T power;
    const T e = split(x < Traits<T>::lowest ? Traits<T>::lowest : x, power);
    return power + power * e;
}

// e^x - 1 for x <= 0: 2^n (e^r - 1) + (2^n - 1)
template <typename T> inline T expm1_of_negative(T x) {
    T power;
    const T e = split(x < Traits<T>::lowest ? Traits<T>::lowest : x, power);
    return power * e + (power - T(1));
}

// 0 <= u <= 1: log(1 + u) = 2 atanh(y), y = u/(2 + u) <= 1/3, by its series
template <typename T> inline T log1p(T u) {
    const T y = u / (T(2) + u), square = y * y;
    T sum = T(1) / T(2 * Traits<T>::log_terms + 1);
#pragma GCC unroll 20
    for (int k = Traits<T>::log_terms - 1; k >= 0; --k) sum = sum * square + T(1) / T(2 * k + 1);
    return T(2) * y * sum;
}

// v >= 0: log(1 + v) = n ln 2 + log(1 + u), where 1 + v = 2^n (1 + u), 0 <= u < 1. For n = 0 u is v itself: 1 + v may
// have lost its last digits, or all. Any other v gives NaN.
template <typename T> inline T log1p_of_any(T v) {
    typedef Traits<T> t;
    const T x = T(1) + v;
    typename t::integer bits;
    std::memcpy(&bits, &x, sizeof(T));
    const typename t::integer one = typename t::integer(t::bias) << t::mantissa;
    const typename t::integer mantissa = (bits & ((typename t::integer(1) << t::mantissa) - 1)) | one;
    T m;
    std::memcpy(&m, &mantissa, sizeof(T));
    const T n = T(int32_t((bits >> t::mantissa)) - t::bias);
    const T u = n == T(0) ? v : m - T(1);
    return n * T(0.69314718055994531) + log1p(u) + (x - x);
}

// -(e^-2|z| - 1)/(e^-2|z| + 1) with the sign of z
template <typename T> inline T tanh(T z) {
    const T e = expm1_of_negative(T(-2) * std::fabs(z));
    return std::copysign(-e / (e + T(2)), z);
}

// e^(-z^2/2), with the rounding error of z^2 taken out again; 0 where it would be subnormal.
template <typename T> inline T exp_of_half_square(T z) {
    const T beyond = Traits<T>::farthest, own = std::fabs(z), near = own > beyond ? beyond : own, square = near * near;
    const T lost = std::fma(near, near, -square), e = exp_of_negative(T(-0.5) * square);
    return own > beyond ? T(0) : e - T(0.5) * lost * e;
}

// The density of the standard normal distribution.
template <typename T> inline T normal_density(T z) { return T(0.3989422804014326779) * exp_of_half_square(z); }

// Its distribution function Phi. Phi(-w) e^(w^2/2) (1 + 3w/4) is nearly flat for w >= 0: it is a polynomial in t, which
// goes from -1 to 1 as w goes from 0 to infinity.
template <typename T> inline T normal_cdf(T z) {
    typedef Traits<T> t;
    const T w = std::fabs(z), above = w + t::normal_middle;
    const T place = (w - t::normal_middle) / above;
    const T tail = exp_of_half_square(z) * (t::normal_tail(w > t::farthest ? T(1) : place) / (T(1) + T(0.75) * w));
    return z > T(0) ? T(1) - tail : tail;
}

}  // namespace fast_math

#define DELTAPROP_EXP_OF_NEGATIVE
#define DELTAPROP_NORMAL
namespace activation {
using fast_math::exp;
using fast_math::exp_of_negative;
using fast_math::log1p;
using fast_math::normal_cdf;
using fast_math::normal_density;
using fast_math::tanh;
}  // namespace activation
