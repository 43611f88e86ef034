// Trains epochs of minibatches on the CPU in one call: gather, forward, backward, update, by one thread or several.
//
// A step is a sequence of phases, and each phase has as many parts as there may be threads. Most networks need two
// phases. A part of the first phase takes some rows of the minibatch through the forward pass and back to delta: no row
// needs another. A layer with more units than the minibatch has rows is a phase of its own, and its parts take some
// units of all rows: a matrix product rearranges its operands first, and so each thread rearranges its share of the
// larger operand, not all of it. A part of the last phase takes some units of every layer, forms their share of the
// weight gradient, sum over rows of delta a^T, and adds it to the weights at once. Under plain gradient descent the
// matrix product itself is the update, W := (1 - eta lambda) W - eta delta^T a, and the gradient is never stored.
//
// The arithmetic stands in activation.cuh, loss.cuh and optimizer.cuh.
//
// The inputs may be encoded (encoded_inputs.h): then one thread trains the network, and its first layer has a form of
// its own. So it has where they are sparse (sparse_inputs.h), for any number of threads.
#pragma once
#include "cpu/layers.h"
#include "cpu/minibatch.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cstdint>
#include <vector>

// Entries of the gradient of a sparse first layer that are formed and used at a time.
const int64_t SPARSE_BLOCK = 4096;

template <typename T> class Epoch {
public:
    explicit Epoch(const EpochPlan& plan)
        : p(plan), layers(plan), constants_(optimizer::constants_as<T>(plan.constants)),
          descends_(with_optimizer(int(plan.optimizer), [](auto rule) { return decltype(rule)::descends; })) {
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

    void operator()() {
        const int parts = int(p.threads);
        const Entries first = entries(layers.W[0]);
        if (layers.encoded) layers.encoded->take_over(first.theta, first.first, first.second);
        if (layers.sparse) layers.sparse->take_over(first.theta, first.first, first.second);
        const int64_t a_step = int64_t(stretches_.size()) + 1;
        threads::Phases phases(a_step * (p.last_batch - p.first_batch) * p.epochs, parts);
        threads::run(parts, [&](int thread) {
            phases.work(thread, [&](int64_t phase, int part) { share(phase / a_step, phase % a_step, part); });
        });
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
    // Some entries of the flat vector, and their moments where the optimizer has some.
    struct Entries { T *theta, *first, *second; };
    Entries entries(T* theta) const {
        const int64_t offset = theta - static_cast<T*>(p.parameters);
        const auto at = [=](void* moments) { return moments ? static_cast<T*>(moments) + offset : nullptr; };
        return {theta, at(p.first), at(p.second)};
    }

    typedef Minibatch<T> Step;

    const EpochPlan& p;
    Layers<T> layers;
    const optimizer::Constants<T> constants_;
    const bool descends_;
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
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], m = step.m, k = step.k;
        const T* a = step.input(layers, l);
        const T *delta = layers.D[l] + from, rate = T(step.rate), penalty = T(p.penalties[k]);
        T *weights = layers.W[l] + from * s_in, *gradient = layers.own[part];
        if (p.decays && p.decays[k] != 0.0)
            decays_[step.epoch * p.threads + part] += p.decays[k] * layers.squared_norm(weights, (to - from) * s_in);
        if (!layers.is_small(l) && layers.in_panels(m)) {
            update_in_panels(step, l, from, to, part, a);
        } else if (descends_) {
            layers.gradient_of(l, from, to - from, m, a, -rate, T(1) - rate * penalty, weights);
        } else {
            const int64_t at_once = std::max<int64_t>(1, layers.block_entries() / s_in);
            for (int64_t unit = from; unit < to; unit += at_once) {
                const int64_t units = std::min(at_once, to - unit), n = units * s_in;
                T* w = layers.W[l] + unit * s_in;
                layers.gradient_of(l, unit, units, m, a, T(1), T(0), gradient);
                if (penalty != T(0))
                    for (int64_t i = 0; i < n; ++i) gradient[i] += penalty * w[i];
                move(step, entries(w), gradient, n, true);
            }
        }
        layers.sum_rows(delta, m, to - from, s_out, gradient);
        move(step, entries(layers.b[l] + from), gradient, to - from, false);
    }

    // The same of a first layer whose inputs are encoded, all units at once.
    void update_encoded(const Step& step, int64_t part) {
        const int64_t s_out = p.sizes[1], m = step.m;
        const T penalty = T(p.penalties[step.k]);
        T* sums = layers.own[part];
        layers.sum_rows(layers.D[0], m, s_out, s_out, sums);
        layers.encoded->sort(m);
        for (const auto& piece : layers.encoded->moved()) {
            if (stopped()) return;
            T *w = layers.encoded->weights(piece), *gradient = layers.encoded->gradient(piece, m, layers.D[0], sums);
            const int64_t n = layers.encoded->entries_of(piece);
            if (p.decays && p.decays[step.k] != 0.0)
                decays_[step.epoch * p.threads + part] += p.decays[step.k] * layers.squared_norm(w, n);
            if (penalty != T(0))
                for (int64_t i = 0; i < n; ++i) gradient[i] += penalty * w[i];
            move(step, {w, layers.encoded->moment(0, piece), layers.encoded->moment(1, piece)}, gradient, n, true);
            layers.encoded->add_up(piece);
        }
        move(step, entries(layers.b[0]), sums, s_out, false);
    }

    // The same of a first layer whose inputs are sparse: under plain descent the weights of these units, else those of
    // a share of the inputs.
    void update_sparse(const Step& step, int64_t from, int64_t to, int64_t part) {
        const int64_t s_in = p.sizes[0], s_out = p.sizes[1];
        const T rate = T(step.rate), penalty = T(p.penalties[step.k]), *delta = layers.D[0];
        auto& sparse = *layers.sparse;
        const double factor = p.decays ? p.decays[step.k] : 0.0;
        double& decay = decays_[step.epoch * p.threads + part];
        const auto moments = [&](int number, int64_t at) {
            return (number == 1 ? p.first : p.second) ? sparse.table(number) + at : nullptr;
        };
        T *w = sparse.table(0), *gradient = layers.own[part];
        if (descends_) {
            for (int64_t i = 0; factor != 0.0 && i < s_in; ++i)
                decay += factor * layers.squared_norm(w + i * s_out + from, to - from);
            sparse.descend(step.m, from, to, delta, rate, T(1) - rate * penalty);
        } else {
            const auto change = [&](int64_t input, int64_t inputs) {
                const int64_t at = input * s_out, n = inputs * s_out;
                if (factor != 0.0) decay += factor * layers.squared_norm(w + at, n);
                if (penalty != T(0))
                    for (int64_t e = 0; e < n; ++e) gradient[e] += penalty * w[at + e];
                move(step, {w + at, moments(1, at), moments(2, at)}, gradient, n, true);
                return !stopped();
            };
            sparse.gradient(step.m, part, p.threads, delta, gradient, SPARSE_BLOCK, change);
        }
        if (from == to || stopped()) return;
        layers.sum_rows(delta + from, step.m, to - from, s_out, gradient);
        move(step, entries(layers.b[0] + from), gradient, to - from, false);
    }

    // The same of its weights, a panel of inputs at a time.
    void update_in_panels(const Step& step, int64_t l, int64_t from, int64_t to, int64_t part, const T* a) {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], m = step.m, WIDTH = panels::width<T>();
        const T rate = T(step.rate), penalty = T(p.penalties[step.k]);
        const panels::Second<T> inputs{a, s_in, false};
        // Of plain descent all units at once, of others as many as the gradient has room for.
        const int64_t at_once = descends_ ? to - from : GRADIENT_BLOCK / WIDTH;
        for (int64_t unit = from; unit < to; unit += at_once) {
            const int64_t units = std::min(at_once, to - unit);
            T *tiles = layers.tiles[part], *w = layers.W[l] + unit * s_in, *gradient = layers.own[part];
            const auto stop = [&] { return stopped(); };
            panels::rearrange_first(units, m, layers.D[l] + unit, s_out, tiles, stop);
            if (descends_) {
                panels::multiply_rearranged(
                    units, s_in, m, tiles, inputs, -rate, T(1) - rate * penalty, [&](int64_t j) { return w + j; }, s_in,
                    layers.panel[part], stop, [](int64_t, int64_t) {});
                continue;
            }
            panels::multiply_rearranged(
                units, s_in, m, tiles, inputs, T(1), T(0), [&](int64_t) { return gradient; }, WIDTH, layers.panel[part],
                stop,
                [&](int64_t j, int64_t columns) {
                    for (int64_t i = 0; i < units; ++i) {
                        T *of_unit = gradient + i * WIDTH, *own = w + i * s_in + j;
                        if (penalty != T(0))
                            for (int64_t c = 0; c < columns; ++c) of_unit[c] += penalty * own[c];
                        move(step, entries(own), of_unit, columns, true);
                    }
                });
        }
    }

    // Some entries by their gradient.
    void move(const Step& step, const Entries& of, const T* gradient, int64_t n, bool decayed) {
        const T keep = decayed ? T(1 - step.decay) : T(1);
        with_optimizer(int(p.optimizer), [&](auto rule) { move_by<decltype(rule)>(step, of, gradient, n, keep); });
    }

    template <class Rule>
    void move_by(const Step& step, const Entries& entries, const T* gradient, int64_t n, T keep) {
        const optimizer::Constants<T> of = constants_;
        const T rate = T(step.rate);
        T *theta = entries.theta, *first = entries.first, *second = entries.second;
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
            T m = Rule::moments > 0 ? first[i] : T(0), v = Rule::moments > 1 ? second[i] : T(0);
            theta[i] = Rule::step(Rule::decays ? keep * theta[i] : theta[i], gradient[i], m, v, rate, of);
            if (Rule::moments > 0) first[i] = m;
            if (Rule::moments > 1) second[i] = v;
        }
    }
};
