// The Hessian of the cost over all samples, times a vector, in one call: forward mode over backpropagation. A dot, in
// code the letter d before a name, stands for the derivative along the vector; the formulas are those of
// derivation/derivatives.py:
//     dz = W da + dW a + db                        da = g'(z) dz
//     v = W^T delta, dv = W^T ddelta + dW^T delta  ddelta' = dv g'(z) + v g''(z) dz
//     (H v)_W = sum ddelta a^T + delta da^T        (H v)_b = sum ddelta
#pragma once
#include "cpu/block_products.h"
#include "cpu/row_sums.h"

namespace curvature {

// a hidden layer's z, dz := g'(z), g''(z) dz, and da. Flattened, as hidden_layer.h says.
template <typename T>
__attribute__((flatten)) void hidden(int64_t activation, T* __restrict__ z, T* __restrict__ dz, T* __restrict__ da,
                                     int64_t n) {
    with_activation(int(activation), [=](auto g) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
            const T own = z[i], moved = dz[i], slope = decltype(g)::gradient(own);
            z[i] = slope;
            da[i] = slope * moved;
            dz[i] = decltype(g)::curvature(own) * moved;
        }
    });
}

// delta, d_delta := delta g', d_delta g' + delta g'' dz
template <typename T>
void times(const T* __restrict__ slope, const T* __restrict__ bend, T* __restrict__ delta, T* __restrict__ d_delta,
           int64_t n) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
        const T v = delta[i];
        d_delta[i] = d_delta[i] * slope[i] + v * bend[i];
        delta[i] = v * slope[i];
    }
}

// d_delta of one row of an output layer that acts on one entry at a time, times `factor`.
template <typename T>
__attribute__((flatten)) void output_row(const output_layer::Rows<T>& of, const T* z, const T* dz, const T* y, T factor,
                                         T* __restrict__ d_delta) {
    with_loss(int(of.loss), int(of.activation), [&](auto loss, auto g) {
#pragma GCC ivdep
        for (int64_t j = 0; j < of.columns; ++j) {
            const T a = decltype(g)::value(z[j]), da = decltype(g)::gradient(z[j]) * dz[j];
            d_delta[j] = factor * decltype(loss)::template delta_tangent<decltype(g)>(z[j], a, y[j], dz[j], da);
        }
    });
}

// d_delta of an output layer; `spare` has room for its a.
template <typename T, class Target, class Weight>
void output(const output_layer::Rows<T>& of, const T* dz, T* d_delta, T* spare, Target target, Weight weight, T scale) {
    const int64_t columns = of.columns;
    if (of.activation < 0) output_layer::outputs(of, spare);  // softmax: d_delta is da = a (dz - sum of a dz)
    for (int64_t i = 0; i < of.rows; ++i) {
        const int64_t at = i * columns;
        const T factor = weight(i) * scale;
        if (of.activation >= 0) {
            output_row(of, of.z + at, dz + at, target(i), factor, d_delta + at);
            continue;
        }
        T sum = 0;
        for (int64_t j = at; j < at + columns; ++j) sum += spare[j] * dz[j];
        for (int64_t j = at; j < at + columns; ++j) d_delta[j] = factor * spare[j] * (dz[j] - sum);
    }
}

}  // namespace curvature

template <typename T> class HessianProduct {
public:
    HessianProduct(const EpochPlan& plan, const T* direction) : sums_(plan), direction_(direction) {}

    int64_t scratch_entries() const { return sums_.scratch_entries(stride()); }

    // Writes H v, v the direction, in the order of the parameters; the plan's cost is added to, and means nothing here.
    void operator()(T* out) const {
        sums_(
            stride(), out, direction_, [&](const EpochPlan& plan) { return Moved(plan, direction_); },
            [](Moved& moved, int64_t from, int64_t to, T* vector, bool first) {
                return moved.add(from, to, vector, first);
            });
    }

private:
    // The layers over a block of rows, and what moves as the parameters move along the direction.
    struct Moved {
        Layers<T> layers;
        const T* direction;
        std::vector<T*> dA, dZ, dD;  // of each layer, as A, Z and D

        Moved(const EpochPlan& plan, const T* along) : layers(plan), direction(along) {
            layers.trains = false;  // z stays
            T* scratch = static_cast<T*>(plan.scratch) + Layers<T>::scratch_entries(plan);
            dA.push_back(nullptr);  // the inputs do not move
            for (int64_t l = 0; l < plan.layers; ++l) {
                const int64_t entries = Layers<T>::padded(plan.batch * plan.sizes[l + 1]);
                dZ.push_back(scratch);
                dA.push_back(scratch + entries);
                dD.push_back(scratch + 2 * entries);
                scratch += 3 * entries;
            }
        }

        static int64_t scratch_entries(const EpochPlan& plan) {
            int64_t entries = Layers<T>::scratch_entries(plan);
            for (int64_t l = 0; l < plan.layers; ++l) entries += 3 * Layers<T>::padded(plan.batch * plan.sizes[l + 1]);
            return entries;
        }

        double add(int64_t from, int64_t to, T* out, bool first) {
            const EpochPlan& p = layers.p;
            const BlockProducts<T> products(layers);
            const int64_t m = to - from, last = p.layers - 1, columns = p.sizes[p.layers];
            const T *x = static_cast<const T*>(p.x) + from * p.sizes[0];
            const T *y = static_cast<const T*>(p.y) + from * columns;
            const T* weights = p.weights ? static_cast<const T*>(p.weights) + from : nullptr;
            const auto input = [&](int64_t l) { return l == 0 ? x : layers.A[l]; };
            const auto target = [&](int64_t i) { return y + i * columns; };
            const auto weight = [&](int64_t i) { return weights ? weights[i] : T(1); };
            for (int64_t l = 0; l <= last && !layers.stopped(); ++l) {
                layers.forward(l, input(l), 0, {0, m, 0, p.sizes[l + 1]});
                products.affine(l, along(layers.W[l]), input(l), along(layers.b[l]), dZ[l], m);
                if (l > 0) products.affine(l, layers.W[l], dA[l], nullptr, dZ[l], m);
                if (l < last) curvature::hidden(p.activations[l], layers.Z[l], dZ[l], dA[l + 1], m * p.sizes[l + 1]);
            }
            const auto rows = layers.last_rows(0, m);
            const double cost = output_layer::cost_and_delta(rows, target, weight, T(p.scales[0]));
            curvature::output(rows, dZ[last], dD[last], dA[last + 1], target, weight, T(p.scales[0]));
            for (int64_t l = last; l >= 0 && !layers.stopped(); --l) {
                T *of_weights = out + (layers.W[l] - layers.W[0]), *of_biases = out + (layers.b[l] - layers.W[0]);
                products.gradient(l, dD[l], input(l), first ? T(0) : T(1), of_weights, m);
                if (l > 0) products.gradient(l, layers.D[l], dA[l], T(1), of_weights, m);
                products.bias_gradient(l, dD[l], first, of_biases, m);
                if (l == 0) break;
                products.back(l, layers.W[l], layers.D[l], T(0), layers.D[l - 1], m);
                products.back(l, layers.W[l], dD[l], T(0), dD[l - 1], m);
                products.back(l, along(layers.W[l]), layers.D[l], T(1), dD[l - 1], m);
                curvature::times(layers.Z[l - 1], dZ[l - 1], layers.D[l - 1], dD[l - 1], m * p.sizes[l]);
            }
            return cost;
        }

        // The part of the direction that belongs to some parameters.
        const T* along(const T* parameters) const { return direction + (parameters - layers.W[0]); }
    };

    RowSums<T> sums_;
    const T* direction_;

    int64_t stride() const { return Moved::scratch_entries(sums_.of_thread(0, 0)); }
};
