// Trains epochs of minibatches on the CPU in one call: gather, forward, backward, update, by one thread or several.
//
// A step is a sequence of phases, and each phase has as many parts as there may be threads. Networks with one hidden
// layer have steps of their own (one_hidden_layer.h); most others need two phases. A part of the first phase takes
// some rows of the minibatch through the forward pass and back to delta: no row needs another. A layer with more
// units than the minibatch has rows is a phase of its own, and its parts take some units of all rows: a matrix
// product rearranges its operands first, and so each thread rearranges its share of the larger operand, not all of
// it. A part of the last phase takes some units of every layer, forms their share of the weight gradient, and moves
// the weights at once (update.h).
//
// The arithmetic stands in activation.cuh, loss.cuh and optimizer.cuh.
//
// The inputs may be encoded (encoded_inputs.h): then one thread trains the network, and its first layer has a form of
// its own. So it has where they are sparse (sparse_inputs.h), for any number of threads.
#pragma once
#include "cpu/layers.h"
#include "cpu/minibatch.h"
#include "cpu/one_hidden_layer.h"
#include "cpu/thread_pool.h"
#include "cpu/update.h"

#include <algorithm>
#include <cstdint>
#include <vector>

template <typename T> class Epoch {
public:
    explicit Epoch(const EpochPlan& plan)
        : p(plan), layers(plan, kept(plan)), update_(plan, layers) {
        costs_.assign(p.threads * p.epochs, 0.0);
        decays_.assign(p.threads * p.epochs, 0.0);
        if (p.carried) {
            std::copy_n(p.carried, p.threads, costs_.begin());
            std::copy_n(p.carried + p.threads, p.threads, decays_.begin());
        }
        for (int64_t operation = 0; operation < operations(); ++operation) {
            const bool of_units = by_units(operation);
            if (stretches_.empty() || of_units || stretches_.back().of_units)
                stretches_.push_back({operation, operation, of_units});
            stretches_.back().last = operation + 1;
        }
    }

    static int64_t scratch_entries(const EpochPlan& p) {
        const int64_t of_hidden = OneHiddenLayer<T>::takes(p) ? OneHiddenLayer<T>::entries(p) : 0;
        return Layers<T>::scratch_entries(p, kept(p)) + of_hidden;
    }

    void operator()() {
        const int parts = int(p.threads);
        const typename Update<T>::Entries first = update_.entries(layers.W[0]);
        if (layers.encoded) layers.encoded->take_over(first.theta, first.first, first.second);
        if (layers.sparse) layers.sparse->take_over(first.theta, first.first, first.second);
        const int64_t steps = (p.last_batch - p.first_batch) * p.epochs, a_step = int64_t(stretches_.size()) + 1;
        if (OneHiddenLayer<T>::takes(p)) {
            OneHiddenLayer<T> hidden(p, layers, update_,
                                     static_cast<T*>(p.scratch) + Layers<T>::scratch_entries(p, Kept::last));
            const int of_units = int(OneHiddenLayer<T>::parts(p));
            threads::in_phases(1 + 2 * steps, of_units, of_units,
                               [&](int64_t phase, int part, int) { share(hidden, steps, phase, part); });
            if (!stopped()) hidden.give_back();
        } else {
            threads::in_phases(a_step * steps, parts, parts,
                               [&](int64_t phase, int part, int) { share(phase / a_step, phase % a_step, part); });
        }
        if (stopped()) return;
        if (layers.encoded) layers.encoded->give_back(first.theta, first.first, first.second);
        if (layers.sparse) layers.sparse->give_back(first.theta, first.first, first.second);
        if (p.carried) {
            std::copy_n(costs_.begin(), p.threads, p.carried);
            std::copy_n(decays_.begin(), p.threads, p.carried + p.threads);
            return;
        }
        for (int64_t i = 0; i < parts * p.epochs; ++i) {
            p.cost[i / parts] += costs_[i];
            p.decay[i / parts] += decays_[i];
        }
    }

private:
    typedef Minibatch<T> Step;
    typedef typename Update<T>::Rows Rows;

    // Where the units of a hidden layer are shared out, each part has its z, a and delta to itself.
    static Kept kept(const EpochPlan& p) { return OneHiddenLayer<T>::takes(p) ? Kept::last : Kept::all; }

    const EpochPlan& p;
    Layers<T> layers;
    const Update<T> update_;
    bool stopped() const { return layers.stopped(); }
    std::vector<double> costs_, decays_;
    // The operations of a step before its update, in stretches that are a phase each.
    struct Stretch { int64_t first, last; bool of_units; };
    std::vector<Stretch> stretches_;

    // Into how many pieces a part's rows fall, so that none of them is long.
    int64_t pieces_of(const Stretch& stretch, int64_t rows) const {
        double operations = 0;
        for (int64_t operation = stretch.first; operation < stretch.last; ++operation) {
            const bool multiplies = operation != 0 && operation != p.layers + 1;
            operations +=
                multiplies ? 2.0 * double(rows) * p.sizes[layer(operation)] * p.sizes[layer(operation) + 1] : 0.0;
        }
        return std::max<int64_t>(1, std::min<int64_t>(rows / 64, int64_t(operations / OPERATIONS_AT_ONCE)));
    }

    // One part of one phase where the units of the only hidden layer are shared out.
    void share(OneHiddenLayer<T>& hidden, int64_t steps, int64_t phase, int64_t part) {
        if (stopped()) return;
        const int64_t number = (phase - 1) / 2;  // phase 0 takes the weights over and begins the first step
        if (phase % 2 == 1) {
            const Step step(p, number);
            costs_[step.epoch * p.threads + part] += hidden.finish(step, part);
            return;
        }
        if (phase > 0) {
            const Step step(p, number);
            decays_[step.epoch * p.threads + part] += hidden.learn(step, part);
        } else {
            hidden.take_over(part);
        }
        const int64_t next = phase / 2;
        if (next < steps) hidden.begin(Step(p, next), part);
    }

    // One part of one phase of a step.
    void share(int64_t number, int64_t phase, int64_t part) {
        if (stopped()) return;
        const Step step(p, number);
        if (phase < int64_t(stretches_.size())) {
            const Stretch& stretch = stretches_[phase];
            Block block{0, step.m, 0, 0};
            if (!stretch.of_units) {
                block.from = step.m * part / p.threads;
                block.to = step.m * (part + 1) / p.threads;
            }
            const int64_t from = block.from, rows = block.rows(), pieces = pieces_of(stretch, rows);
            for (int64_t piece = 0; piece < pieces && rows; ++piece) {
                block.from = from + rows * piece / pieces;
                block.to = from + rows * (piece + 1) / pieces;
                for (int64_t operation = stretch.first; operation < stretch.last && !stopped(); ++operation) {
                    const int64_t width = units(operation);
                    block.first = stretch.of_units ? bound(width, part) : 0;
                    block.last = stretch.of_units ? bound(width, part + 1) : width;
                    operate(step, operation, part, block);
                }
            }
            return;
        }
        for (int64_t l = 0; l < p.layers; ++l) {
            const int64_t units = p.sizes[l + 1], from = units * part / p.threads, to = units * (part + 1) / p.threads;
            if (l == 0 && layers.sparse) update_sparse(step, from, to, part);
            else update(step, l, from, to, part);
        }
    }

    // -- the operations of a step before its update --------------------------------------------------------------
    // 0 gathers the minibatch; 1 ... L are the layers, forward; L + 1 is the cost and delta of the last; then come
    // delta of the others, from the last to the first.

    int64_t operations() const { return 2 * p.layers + 1; }

    // Of a forward or backward operation, which weights it goes through.
    int64_t layer(int64_t operation) const {
        return operation <= p.layers ? operation - 1 : 2 * p.layers + 1 - operation;
    }

    // How many units its result has.
    int64_t units(int64_t operation) const {
        if (operation == 0) return p.sizes[0];
        if (operation <= p.layers) return p.sizes[operation];
        return operation == p.layers + 1 ? p.sizes[p.layers] : p.sizes[layer(operation)];
    }

    bool by_units(int64_t operation) const {
        if (p.threads == 1 || operation == 0 || operation == p.layers + 1) return false;
        return !layers.is_small(layer(operation)) && units(operation) > p.batch;
    }

    // Where the share of a part begins among so many units: at the beginning of a cache line.
    int64_t bound(int64_t width, int64_t part) const {
        return part == p.threads ? width : width * part / p.threads / 16 * 16;
    }

    void operate(const Step& step, int64_t operation, int64_t part, const Block& block) {
        if (operation == 0) step.gather(layers, block);
        else if (operation <= p.layers)
            layers.forward(operation - 1, step.input(layers, operation - 1), part, block, step.mask(operation - 1));
        else if (operation > p.layers + 1) layers.backward(layer(operation), part, block);
        else
            costs_[step.epoch * p.threads + part] +=
                step.output_delta(layers, block.from, block.to, T(p.scales[step.k]));
    }

    // -- the update: units `from` to `to` of layer l -------------------------------------------------------------

    void update(const Step& step, int64_t l, int64_t from, int64_t to, int64_t part) {
        if (from == to) return;
        if (l == 0 && layers.encoded) return update_encoded(step, part);
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        const WeightBlock<T> block{layers.W[l] + from * s_in, to - from, s_in, s_in, layers.is_small(l)};
        const Rows delta{layers.D[l] + from, s_out}, a{step.input(layers, l), s_in};
        decays_[step.epoch * p.threads + part] += update_.decay(step, block);
        update_.weights(step, block, delta, a, part);
        update_.biases(step, layers.b[l] + from, to - from, delta, part);
    }

    // The same of a first layer whose inputs are encoded, all units at once.
    void update_encoded(const Step& step, int64_t part) {
        const int64_t s_out = p.sizes[1], m = step.m;
        T* sums = layers.own[part];
        layers.sum_rows(layers.D[0], m, s_out, s_out, sums);
        layers.encoded->sort(m);
        for (const auto& piece : layers.encoded->moved()) {
            if (stopped()) return;
            T *w = layers.encoded->weights(piece), *gradient = layers.encoded->gradient(piece, m, layers.D[0], sums);
            const int64_t n = layers.encoded->entries_of(piece);
            decays_[step.epoch * p.threads + part] += update_.decay(step, w, n);
            update_.move_weights(step, {w, layers.encoded->moment(0, piece), layers.encoded->moment(1, piece)},
                                 gradient, n);
            layers.encoded->add_up(piece);
        }
        update_.move(step, update_.entries(layers.b[0]), sums, s_out, false);
    }

    // The same of a first layer whose inputs are sparse.
    void update_sparse(const Step& step, int64_t from, int64_t to, int64_t part) {
        const T* delta = layers.D[0];
        decays_[step.epoch * p.threads + part] +=
            update_.weights(step, *layers.sparse, part, p.threads, delta, part);
        if (!stopped()) update_.biases(step, layers.b[0] + from, to - from, {delta + from, p.sizes[1]}, part);
    }
};
