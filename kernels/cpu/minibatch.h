// Minibatch k of an epoch: its first sample, how many it has, what of the plan belongs to it, and its way into and out
// of the layers.
#pragma once
#include "cpu/layers.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

template <typename T> struct Minibatch {
    const EpochPlan& p;
    int64_t epoch, k, start, m;
    MinibatchShare share;
    const int64_t* order;
    const T* weights;
    double rate, decay;

    Minibatch(const EpochPlan& plan, int64_t number) : p(plan) {
        const int64_t batches = p.last_batch - p.first_batch;
        epoch = number / batches;
        k = p.first_batch + number % batches;
        const int64_t first = k * p.batch, rows = std::min(p.batch, p.samples - first);
        share = p.shares ? p.shares[k] : MinibatchShare{first, rows, first, rows, 0};
        start = share.start, m = share.rows;
        order = p.order ? p.order + epoch * p.order_stride : nullptr;
        weights = p.weights ? static_cast<const T*>(p.weights) + epoch * p.weights_stride : nullptr;
        const double* now = p.rates ? p.rates + epoch * p.rates_stride + k * p.step_stride : nullptr;
        rate = now ? now[0] : 0.0, decay = now ? now[1] : 0.0;
    }
    int64_t row(int64_t i) const { return order ? order[start + i] : start + i; }
    dropout::Mask<T> mask(int64_t l) const { return dropout::mask_of<T>(p, epoch, share, l); }
    T weight(int64_t i) const { return weights ? weights[start + i] : T(1); }

    // All rows of a before layer l.
    const T* input(const Layers<T>& layers, int64_t l) const {
        return l == 0 && !order ? static_cast<const T*>(p.x) + start * p.sizes[0] : layers.A[l];
    }

    // Copies the inputs of some rows to where the layers read them.
    void gather(Layers<T>& layers, const Block& block) const {
        const int64_t inputs = p.sizes[0];
        prefetch_targets(block.from, block.to);
        if (layers.sparse) return layers.sparse->read_rows(block.from, block.to, [&](int64_t i) { return row(i); });
        const T* x = static_cast<const T*>(p.x);
        // All samples in the order of the epoch before stand there already.
        if ((!order && !layers.encoded) || (epoch != 0 && p.order_stride == 0 && m == p.samples)) return;
        if (layers.encoded)
            return layers.encoded->read_rows(block.from, block.to,
                                             [&](int64_t i) { return x + row(i) * p.encoding->columns; });
        for (int64_t i = block.from; i < block.to; ++i)
            std::memcpy(layers.A[0] + i * inputs, x + row(i) * inputs, inputs * sizeof(T));
    }

    // Asks for the targets of these rows, which lie anywhere in memory, some time before they are needed.
    __attribute__((always_inline)) void prefetch_targets(int64_t from, int64_t to) const {
        const int64_t bytes = p.sizes[p.layers] * int64_t(sizeof(T)), LINE = 64;
        for (int64_t i = from; i < to && order && bytes <= 4 * LINE; ++i)
            for (int64_t at = 0; at < bytes; at += LINE)
                __builtin_prefetch(static_cast<const char*>(p.y) + row(i) * bytes + at);
    }

    // The cost of these rows; delta^(L) of them into D. a^(L) is not kept.
    double output_delta(Layers<T>& layers, int64_t from, int64_t to, T scale) const {
        const T* y = static_cast<const T*>(p.y);
        const int64_t columns = p.sizes[p.layers];
        return output_layer::cost_and_delta(
            layers.last_rows(from, to), [&](int64_t i) { return y + row(from + i) * columns; },
            [&](int64_t i) { return weight(from + i); }, scale);
    }
};
