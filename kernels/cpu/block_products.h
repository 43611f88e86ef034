// The three products of a layer over m rows, with weights of the caller's, by one thread: by registers, panels or the
// BLAS, whichever suits the layer. Results are contiguous, and may be added to what is there.
#pragma once
#include "cpu/layers.h"

#include <algorithm>
#include <cstdint>

template <typename T> class BlockProducts {
public:
    explicit BlockProducts(const Layers<T>& of) : layers(of), p(of.p) {}

    // z (m, s_out) := a W^T + bias or, without a bias, z + a W^T.
    void affine(int64_t l, const T* w, const T* a, const T* bias, T* z, int64_t m) const {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        if (layers.is_small(l)) {
            T* transposed = layers.own[0];
            transpose(w, s_in, s_out, s_in, transposed, s_out);
            return Product{m, s_out, s_in, a, s_in, 1, transposed, s_out, T(1), T(1), bias, z, s_out}();
        }
        for (int64_t i = 0; i < m && bias; ++i) std::copy_n(bias, s_out, z + i * s_out);
        layers.gemm('T', 'N', s_out, m, s_in, T(1), w, s_in, a, s_in, T(1), z, s_out);
    }

    // out (m, s_in) := delta W + beta out
    void back(int64_t l, const T* w, const T* delta, T beta, T* out, int64_t m) const {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        if (layers.is_small(l))
            return Product{m, s_in, s_out, delta, s_out, 1, w, s_in, T(1), beta, nullptr, out, s_in}();
        layers.gemm('N', 'N', s_in, m, s_out, T(1), w, s_in, delta, s_out, beta, out, s_in);
    }

    // out (s_out, s_in) := the sum over the rows of delta a^T, and beta out
    void gradient(int64_t l, const T* delta, const T* a, T beta, T* out, int64_t m) const {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        if (layers.is_small(l))
            return Product{s_out, s_in, m, delta, 1, s_out, a, s_in, T(1), beta, nullptr, out, s_in}();
        if (!layers.in_panels(m))
            return layers.gemm('N', 'T', s_in, s_out, m, T(1), a, s_in, delta, s_out, beta, out, s_in);
        const auto stop = [&] { return layers.stopped(); };
        panels::rearrange_first(s_out, m, delta, s_out, layers.tiles[0], stop);
        panels::multiply_rearranged(
            s_out, s_in, m, layers.tiles[0], small_product::EvenRows<T>{a, s_in}, T(1), beta,
            [&](int64_t j) { return out + j; }, s_in, layers.panel[0], stop, [](int64_t, int64_t) {});
    }

    // out (s_out,) := the sum over the rows of delta, and out if they are not the first
    void bias_gradient(int64_t l, const T* delta, bool first, T* out, int64_t m) const {
        const int64_t s_out = p.sizes[l + 1];
        T* sums = first ? out : layers.own[0];
        layers.sum_rows(delta, m, s_out, s_out, sums);
        for (int64_t j = 0; j < s_out && !first; ++j) out[j] += sums[j];
    }

private:
    typedef small_product::Product<T> Product;

    const Layers<T>& layers;
    const EpochPlan& p;
};
