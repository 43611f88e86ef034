// The cost and its gradient over all samples of a plan, in one call. The formulas stand in derivation/backprop.py.
#pragma once
#include "cpu/block_products.h"
#include "cpu/row_sums.h"

template <typename T> class Gradient {
public:
    explicit Gradient(const EpochPlan& plan) : sums_(plan) {}

    int64_t scratch_entries() const { return sums_.scratch_entries(stride()); }

    // Writes the gradient, in the order of the parameters; adds the cost and the squares to the plan's, see RowSums.
    void operator()(T* out, const T* parameters) const {
        sums_(
            stride(), out, parameters, [](const EpochPlan& plan) { return Layers<T>(plan); },
            [](Layers<T>& layers, int64_t from, int64_t to, T* vector, bool first) {
                return add(layers, from, to, vector, first);
            });
    }

private:
    RowSums<T> sums_;

    int64_t stride() const { return Layers<T>::scratch_entries(sums_.of_thread(0, 0)); }

    static double add(Layers<T>& layers, int64_t from, int64_t to, T* out, bool first) {
        const EpochPlan& p = layers.p;
        const BlockProducts<T> products(layers);
        const int64_t m = to - from, columns = p.sizes[p.layers];
        const T *x = static_cast<const T*>(p.x) + from * p.sizes[0], *y = static_cast<const T*>(p.y) + from * columns;
        const T* weights = p.weights ? static_cast<const T*>(p.weights) + from : nullptr;
        const auto input = [&](int64_t l) { return l == 0 ? x : layers.A[l]; };
        for (int64_t l = 0; l < p.layers && !layers.stopped(); ++l)
            layers.forward(l, input(l), 0, {0, m, 0, p.sizes[l + 1]});
        const double cost = output_layer::cost_and_delta(
            layers.last_rows(0, m), [&](int64_t i) { return y + i * columns; },
            [&](int64_t i) { return weights ? weights[i] : T(1); }, T(p.scales[0]));
        for (int64_t l = p.layers - 1; l >= 0 && !layers.stopped(); --l) {
            T *of_weights = out + (layers.W[l] - layers.W[0]), *of_biases = out + (layers.b[l] - layers.W[0]);
            products.gradient(l, layers.D[l], input(l), first ? T(0) : T(1), of_weights, m);
            products.bias_gradient(l, layers.D[l], first, of_biases, m);
            if (l > 0) layers.backward(l, 0, {0, m, 0, p.sizes[l]});
        }
        return cost;
    }
};
