// The output layer over some rows: its cost and delta^(L), or its outputs a^(L). The arithmetic of activations and
// losses stands in activation.cuh and loss.cuh.
#pragma once
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace output_layer {

// z, delta and other, each (rows, columns); `other` is scratch.
template <typename T> struct Rows {
    int64_t loss, activation, rows, columns;
    const T* z;
    T *delta, *other;
    bool simplified = false;  // delta^(L) is a - y, without g'
};

// z less the largest of its row, into `shifted`, and the exponential of that into `powers`.
template <typename T> void exponentials(int64_t rows, int64_t columns, const T* z, T* shifted, T* powers) {
    for (int64_t i = 0; i < rows; ++i) {
        const T* own = z + i * columns;
        T top = own[0];
        for (int64_t j = 1; j < columns; ++j) top = own[j] > top ? own[j] : top;  // NaN: its exponential tells
        for (int64_t j = 0; j < columns; ++j) shifted[i * columns + j] = own[j] - top;
    }
#pragma GCC ivdep
    for (int64_t e = 0; e < rows * columns; ++e) powers[e] = fast_math::exp_of_negative(shifted[e]);
}

// A block of rows at a time, so that exponentials and logarithms are taken of many numbers at once.
template <class Loss, typename T, class Target, class Weight>
double softmax_cost(const Rows<T>& of, Target target, Weight weight, T scale) {
    const int64_t columns = of.columns, AT_ONCE = 256;
    T sums[AT_ONCE], others[AT_ONCE], logs[AT_ONCE];
    double cost = 0;
    for (int64_t first = 0; first < of.rows; first += AT_ONCE) {
        const int64_t n = std::min(AT_ONCE, of.rows - first);
        T *delta = of.delta + first * columns, *below_top = of.other + first * columns;
        exponentials(n, columns, of.z + first * columns, below_top, delta);
        for (int64_t i = 0; i < n; ++i) {
            const T* own = delta + i * columns;
            T sum = 0, rest = 0;
            for (int64_t j = 0; j < columns; ++j) sum += own[j];
            sums[i] = sum;
            if (sum < T(1.5))  // the others are small, and drowned by the 1 of the largest z
                for (int64_t j = 0; j < columns; ++j) rest += own[j] < T(1) ? own[j] : T(0);
            others[i] = sum < T(1.5) ? rest : sum - T(1);
        }
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) logs[i] = fast_math::log1p_of_any(others[i]);
        for (int64_t i = 0; i < n; ++i) {
            const T *y = target(first + i), *own = below_top + i * columns;
            const T share = T(1) / sums[i], factor = weight(first + i) * scale;
            T *out = delta + i * columns, terms = 0;
            for (int64_t j = 0; j < columns; ++j) {
                terms += Loss::cost(y[j], logs[i], own[j]);
                out[j] = factor * (out[j] * share - y[j]);
            }
            cost += weight(first + i) * terms;
        }
    }
    return cost;
}

// The cost of each of so many entries, into the place of its target, and their delta. Slope is the activation whose g'
// delta has: G, or the identity for the simplified error. The loops around this are flattened: one around a function
// that is called, and not inlined, does not become vector instructions.
template <class Loss, class G, class Slope, typename T>
inline void entries(int64_t n, const T* __restrict__ z, T* __restrict__ targets, T* __restrict__ delta) {
#pragma GCC ivdep
    for (int64_t e = 0; e < n; ++e) {
        const T y = targets[e], a = G::value(z[e]);
        targets[e] = Loss::template cost<G>(z[e], a, y);
        delta[e] = Loss::template delta<Slope>(z[e], a, y);
    }
}

// Whether there is such a loss with such an activation.
template <typename T> __attribute__((flatten)) bool all_entries(const Rows<T>& of) {
    const int64_t n = of.rows * of.columns;
    return with_loss(int(of.loss), int(of.activation), [&](auto loss, auto g) {
        typedef decltype(loss) Loss;
        typedef decltype(g) G;
        if constexpr (std::is_same<Loss, loss::squared_error>::value)
            if (of.simplified) return entries<Loss, G, activation::identity>(n, of.z, of.other, of.delta);
        entries<Loss, G, G>(n, of.z, of.other, of.delta);
    });
}

// The cost of the rows, and their delta, which is `scale` times its derivative; target(i) and weight(i) are row i's.
template <typename T, class Target, class Weight>
double cost_and_delta(const Rows<T>& of, Target target, Weight weight, T scale) {
    if (of.loss == loss_number::categorical_cross_entropy)
        return softmax_cost<loss::categorical_cross_entropy>(of, target, weight, scale);
    if (of.loss == loss_number::clipped_categorical_cross_entropy)
        return softmax_cost<loss::clipped_categorical_cross_entropy>(of, target, weight, scale);
    const int64_t columns = of.columns;
    for (int64_t i = 0; i < of.rows; ++i) std::copy_n(target(i), columns, of.other + i * columns);
    if (!all_entries(of)) return NAN;
    double cost = 0;
    for (int64_t i = 0; i < of.rows; ++i) {
        T terms = 0, *delta = of.delta + i * columns;
        const T *costs = of.other + i * columns, own = weight(i);
        for (int64_t j = 0; j < columns; ++j) terms += costs[j];
        cost += own * terms;
        const T factor = own * scale;  // one number: where all weights are tiny, the scale alone is infinite
        for (int64_t j = 0; j < columns; ++j) delta[j] *= factor;
    }
    return cost;
}

// a^(L) of the rows, into `out`; the number -1 stands for softmax.
template <typename T> __attribute__((flatten)) void outputs(const Rows<T>& of, T* out) {
    const int64_t columns = of.columns, entries = of.rows * columns;
    if (of.activation >= 0) {
        const T* z = of.z;
        with_activation(int(of.activation), [=](auto g) {
#pragma GCC ivdep
            for (int64_t e = 0; e < entries; ++e) out[e] = decltype(g)::value(z[e]);
        });
        // The exponential of a very low z is 0, not the least number that fast_math.h makes of it.
        if (of.activation == activation_number::sigmoid || of.activation == activation_number::exp)
#pragma GCC ivdep
            for (int64_t e = 0; e < entries; ++e) out[e] = z[e] < fast_math::Traits<T>::lowest ? T(0) : out[e];
        return;
    }
    exponentials(of.rows, columns, of.z, of.other, out);
    for (int64_t i = 0; i < of.rows; ++i) {
        T sum = 0, *own = out + i * columns;
        for (int64_t j = 0; j < columns; ++j) sum += own[j];
        const T* shifted = of.other + i * columns;  // the exponential of a very low one is 0, not the least number
        for (int64_t j = 0; j < columns; ++j)
            own[j] = shifted[j] < fast_math::Traits<T>::lowest ? T(0) : own[j] / sum;
    }
}

}  // namespace output_layer
