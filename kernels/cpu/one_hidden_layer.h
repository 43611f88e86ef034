// Steps of a network with one hidden layer, whose units are shared out among the threads.
//
// A thread keeps the weights into and out of its units to itself: other cores neither read nor write them, and the
// minibatch is read by all. What threads exchange is the part of z^(L) that each block of units adds, and delta^(L):
//     z^(L) = b + sum over blocks of a_block W_block^T,    delta_block = delta^(L) W_block * g'(z_block).
// So a step has two phases. In one, each part adds up some rows of z^(L) and takes their cost and delta^(L). In the
// other, each part goes back to the delta of its units, moves their weights, and begins the next minibatch.
//
// Where the inputs are sparse, each part has a sparse layer of its units, and goes through all entries of a minibatch.
//
// The blocks depend on the number of units alone, so that the numbers are the same with any number of threads.
#pragma once
#include "cpu/layers.h"
#include "cpu/minibatch.h"
#include "cpu/update.h"

#include <algorithm>
#include <cstdint>
#include <vector>

template <typename T> class OneHiddenLayer {
public:
    // Entries of a minibatch that the second-level cache of every core can hold, for every part reads all of them.
    static const int64_t MOST_INPUTS = 1 << 17;

    static int64_t blocks(const EpochPlan& p) {
        const int64_t units = p.sizes[1];
        return units < 64 ? 2 : units < 256 ? 4 : units < 1024 ? 8 : 16;
    }

    static bool takes(const EpochPlan& p) {
        const int64_t inputs = p.sparse ? p.batch + p.sparse->most : p.batch * p.sizes[0];
        return p.layers == 2 && !p.encoding && blocks(p) * p.sizes[2] <= p.sizes[1] && p.sizes[1] >= 16 &&
               inputs <= MOST_INPUTS;
    }

    static int64_t parts(const EpochPlan& p) { return std::min(p.threads, blocks(p)); }

    // Entries of scratch that it needs.
    static int64_t entries(const EpochPlan& p) {
        const int64_t of_copies = has_copies(p) ? padded(p.batch * p.sizes[0]) : 0;
        const int64_t of_tables = p.sparse ? padded(of_sparse_layer(p, widest(p))) : 0;
        const int64_t of_part = of_copies + of_tables + 3 * padded(p.batch * widest(p));
        return parts(p) * of_part + blocks(p) * padded(p.batch * p.sizes[2]);
    }

    OneHiddenLayer(const EpochPlan& plan, Layers<T>& of, const Update<T>& update, T* scratch)
        : p(plan), layers(of), update_(update) {
        const auto take = [&](int64_t entries) {
            T* start = scratch;
            scratch += padded(entries);
            return start;
        };
        for (int64_t part = 0; part < parts(p); ++part) {
            rows_.emplace_back(p.sparse ? 0 : p.batch);
            if (p.sparse) {
                const int64_t units = unit(part + 1) - unit(part);
                sparse_.emplace_back(*p.sparse, p.sizes[0], units, p.batch, take(of_sparse_layer(p, units)));
            }
            copies_.push_back(has_copies(p) ? take(p.batch * p.sizes[0]) : nullptr);
            Z_.push_back(take(p.batch * widest(p)));
            A_.push_back(take(p.batch * widest(p)));
            D_.push_back(take(p.batch * widest(p)));
        }
        for (int64_t block = 0; block < blocks(p); ++block) sums_.push_back(take(p.batch * p.sizes[2]));
    }

    // Sparse inputs: the part's weights and their moments, into its tables.
    void take_over(int64_t part) {
        if (!p.sparse) return;
        const typename Update<T>::Entries of = update_.entries(layers.W[0] + unit(part) * p.sizes[0]);
        sparse_[part].take_over(of.theta, of.first, of.second);
    }
    // The weights and moments of all parts, back from there.
    void give_back() const {
        for (size_t part = 0; part < sparse_.size(); ++part) {
            const typename Update<T>::Entries of = update_.entries(layers.W[0] + unit(part) * p.sizes[0]);
            sparse_[part].give_back(of.theta, of.first, of.second);
        }
    }

    // The minibatch into the part's units, and what they add to z^(L).
    void begin(const Minibatch<T>& step, int64_t part) {
        const int64_t m = step.m, first = unit(part), units = unit(part + 1) - first;
        T *z = Z_[part], *a = A_[part];
        const dropout::Mask<T> mask = step.mask(0);
        read(step, part);
        step.prefetch_targets(first_row(m, part), first_row(m, part + 1));
        each_range(part, [&](int64_t of_range, int64_t width) {
            const int64_t start = of_range - first;
            const auto activate = [&](int64_t j, int64_t columns) {
                layers.each_row(m, columns, units, [&](int64_t at, int64_t entries) {
                    const int64_t place = start + j + at;
                    layers.value(p.activations[0], z + place, a + place, entries);
                });
                for (int64_t i = 0; i < m && mask.drops; ++i) {
                    const int64_t place = start + j + i * units;
                    mask.apply(i * p.sizes[1] + of_range + j, columns, a + place, z + place);
                }
            };
            if (p.sparse) {
                sparse_[part].forward(0, m, start, start + width, layers.b[0] + first, z);
                activate(0, width);
            } else {
                layers.affine(0, inputs(part), m, of_range, width, z + start, units, part, activate);
            }
        });
        for (int64_t block = first_block(part); block < first_block(part + 1); ++block) add(block, part, m);
    }

    // z^(L) of the part's rows, their cost, which is returned, and their delta^(L).
    double finish(const Minibatch<T>& step, int64_t part) {
        const int64_t columns = p.sizes[2], from = first_row(step.m, part), to = first_row(step.m, part + 1);
        T* z = layers.Z[1];
        for (int64_t i = from; i < to; ++i) std::copy_n(layers.b[1], columns, z + i * columns);
        for (const T* sums : sums_)
#pragma GCC ivdep
            for (int64_t e = from * columns; e < to * columns; ++e) z[e] += sums[e];
        return step.output_delta(layers, from, to, T(p.scales[step.k]));
    }

    // delta of the part's units; the step of the weights into and out of them. Returns what the penalty adds to the
    // cost of the epoch.
    double learn(const Minibatch<T>& step, int64_t part) {
        const int64_t s_in = p.sizes[0], s_1 = p.sizes[1], s_out = p.sizes[2], m = step.m;
        const int64_t first = unit(part), units = unit(part + 1) - first;
        const Rows last{layers.D[1], s_out}, delta{D_[part], units};
        T* own = D_[part];
        small_product::Product<T>{m, units, s_out, last.entries, s_out, 1, layers.W[1] + first, s_1, T(1), T(0),
                                  nullptr, own, units}();
        hidden_layer::times(Z_[part], own, m * units);
        const WeightBlock<T> out{layers.W[1] + first, s_out, units, s_1, layers.is_small(1)};
        double decay = update_.decay(step, out);
        if (p.sparse) decay += update_.weights(step, sparse_[part], 0, 1, own, part);
        else each_range(part, [&](int64_t of_range, int64_t width) {
            const WeightBlock<T> into{layers.W[0] + of_range * s_in, width, s_in, s_in, layers.is_small(0)};
            decay += update_.decay(step, into);
            update_.weights(step, into, {own + of_range - first, units}, inputs(part), part);
        });
        update_.weights(step, out, last, Rows{A_[part], units}, part);
        update_.biases(step, layers.b[0] + first, units, delta, part);
        if (part == 0) update_.biases(step, layers.b[1], s_out, last, part);
        return decay;
    }

private:
    typedef small_product::EvenRows<T> Rows;

    const EpochPlan& p;
    Layers<T>& layers;
    const Update<T>& update_;
    std::vector<std::vector<const T*>> rows_;  // of each part: the samples of its minibatch
    std::vector<T*> copies_, Z_, A_, D_;       // of each part
    std::vector<sparse::Layer<T>> sparse_;     // of each part, where inputs are sparse: the layer of its units
    std::vector<T*> sums_;                     // of each block: its part of z^(L)

    static int64_t padded(int64_t entries) { return Layers<T>::padded(entries); }

    // The first unit of a block. Where the product with the inputs is most of the work, and its columns are the same in
    // any part of a vector, blocks are as even as can be. Else, and where they are narrower than a vector, they begin
    // at a multiple of 8.
    static int64_t unit_of_block(const EpochPlan& p, int64_t block) {
        const int64_t units = p.sizes[1], even = units * block / blocks(p), lanes = small_product::WIDEST / sizeof(T);
        const bool is_even =
            panels::ARE_FASTER && units >= lanes * blocks(p) && !Layers<T>::is_small(p.sizes[0], units);
        if (block == blocks(p) || is_even) return even;
        return std::min((even + 4) / 8 * 8, units);
    }
    int64_t first_block(int64_t part) const { return blocks(p) * part / parts(p); }
    int64_t unit(int64_t part) const { return unit_of_block(p, first_block(part)); }

    // The first row of z^(L) that a part adds up.
    int64_t first_row(int64_t m, int64_t part) const { return m * part / parts(p); }

    // do_range(first, units) for all units of a part at once or, where the products are the BLAS's, for each block: the
    // BLAS may add up in another order where there are more columns.
    template <class Do> void each_range(int64_t part, Do do_range) const {
        if (panels::ARE_FASTER || layers.is_small(0)) return do_range(unit(part), unit(part + 1) - unit(part));
        for (int64_t block = first_block(part); block < first_block(part + 1); ++block) {
            const int64_t first = unit_of_block(p, block);
            do_range(first, unit_of_block(p, block + 1) - first);
        }
    }

    // The most units that a part has.
    static int64_t widest(const EpochPlan& p) {
        int64_t most = 0;
        for (int64_t part = 0; part < parts(p); ++part)
            most = std::max(most, unit_of_block(p, blocks(p) * (part + 1) / parts(p)) -
                                      unit_of_block(p, blocks(p) * part / parts(p)));
        return most;
    }

    // Whether the samples of a minibatch are copied, for a BLAS that needs them one after another, where they have an
    // order. Scratch is made before a plan has its order, so the room for copies does not depend on there being one.
    static bool has_copies(const EpochPlan& p) {
        return !p.sparse && !panels::ARE_FASTER && !Layers<T>::is_small(p.sizes[0], p.sizes[1]);
    }

    // Entries of memory that the sparse layer of so many units needs.
    static int64_t of_sparse_layer(const EpochPlan& p, int64_t units) {
        return sparse::Layer<T>::entries(*p.sparse, p.sizes[0], units, p.batch, 1);
    }

    // Where a part finds the samples of a minibatch.
    void read(const Minibatch<T>& step, int64_t part) {
        const int64_t s_in = p.sizes[0];
        if (p.sparse) return sparse_[part].read_rows(0, step.m, [&](int64_t i) { return step.row(i); });
        for (int64_t i = 0; i < step.m; ++i) {
            const T*& row = rows_[part][i];
            row = static_cast<const T*>(p.x) + step.row(i) * s_in;
            if (p.order && has_copies(p)) row = std::copy_n(row, s_in, copies_[part] + i * s_in) - s_in;
        }
    }
    small_product::ScatteredRows<T> inputs(int64_t part) const { return {rows_[part].data(), 0, p.sizes[0]}; }

    // What a block of the part's units adds to z^(L).
    void add(int64_t block, int64_t part, int64_t m) {
        const int64_t s_out = p.sizes[2], s_1 = p.sizes[1], first = unit(part), units = unit(part + 1) - first;
        const int64_t from = unit_of_block(p, block), n = unit_of_block(p, block + 1) - from;
        T* transposed = layers.own[part];
        transpose(layers.W[1] + from, s_1, s_out, n, transposed, s_out);
        small_product::Product<T>{m,          s_out, n,    A_[part] + (from - first), units,        1,
                                  transposed, s_out, T(1), T(0),                      nullptr, sums_[block], s_out}();
    }
};
