// The gradient of a block of weights, sum over samples of delta a^T, and the step of the update rule that it goes into.
// Under plain gradient descent the matrix product itself is the update, W := (1 - eta lambda) W - eta delta^T a, and
// the gradient is never stored. Where the plan asks for the gradient, the same product is that.
#pragma once
#include "cpu/layers.h"
#include "cpu/minibatch.h"

#include <algorithm>
#include <cstdint>

// Entries of the gradient of a sparse first layer that are formed and used at a time.
const int64_t SPARSE_BLOCK = 4096;

// Some units of a layer, and the weights of some of their inputs; `stride` entries from one unit's to the next unit's.
template <typename T> struct WeightBlock {
    T* weights;
    int64_t units, inputs, stride;
    bool small;  // whether the layer is, see Layers::is_small
};

template <typename T> class Update {
public:
    typedef small_product::EvenRows<T> Rows;

    Update(const EpochPlan& plan, const Layers<T>& of)
        : p(plan), layers(of), constants_(optimizer::constants_as<T>(plan.constants)),
          descends_(with_optimizer(int(plan.optimizer), [](auto rule) { return decltype(rule)::descends; })),
          keeps_(plan.gradient != nullptr) {}

    // Some entries of the flat vector, and their moments where the optimizer has some. Where the gradient is asked for,
    // its entries stand in the place of the first moment.
    struct Entries { T *theta, *first, *second; };
    Entries entries(T* theta) const {
        const int64_t offset = theta - static_cast<T*>(p.parameters);
        const auto at = [=](void* moments) { return moments ? static_cast<T*>(moments) + offset : nullptr; };
        return keeps_ ? Entries{theta, at(p.gradient), nullptr} : Entries{theta, at(p.first), at(p.second)};
    }

    // Moves the weights of a block. delta has a column for each of its units, and a, a second operand of
    // small_product.h, one for each of its inputs.
    template <class Operand>
    void weights(const Minibatch<T>& step, const WeightBlock<T>& of, const Rows& delta, const Operand& a,
                 int64_t part) const {
        if (of.units == 0 || of.inputs == 0) return;
        if (!of.small && layers.in_panels(step.m)) return weights_in_panels(step, of, delta, a, part);
        if (in_one_product())
            return gradient(of, of.units, step.m, delta, a, factor(step), kept_share(step), target(of.weights),
                            of.stride);
        T* sums = layers.own[part];
        const int64_t at_once = std::max<int64_t>(1, layers.block_entries() / of.inputs);
        for (int64_t unit = 0; unit < of.units; unit += at_once) {
            const int64_t units = std::min(at_once, of.units - unit);
            T* own = of.weights + unit * of.stride;
            gradient(of, units, step.m, {delta.entries + unit, delta.stride}, a, T(1), T(0), sums, of.inputs);
            if (of.inputs == of.stride) {
                move_weights(step, entries(own), sums, units * of.inputs);
                continue;
            }
            for (int64_t i = 0; i < units; ++i)
                move_weights(step, entries(own + i * of.stride), sums + i * of.inputs, of.inputs);
        }
    }

    // Moves a share of the weights of a sparse layer: under plain descent some units, else some inputs. Returns what
    // their penalty adds to the cost of an epoch. delta is (m, units of the layer).
    double weights(const Minibatch<T>& step, sparse::Layer<T>& of, int64_t share, int64_t shares, const T* delta,
                   int64_t part) const {
        const int64_t units = of.units();
        T *w = of.table(0), *gradient = layers.own[part];
        double decayed = 0;
        if (descends_ && !keeps_) {
            const int64_t first = units * share / shares, last = units * (share + 1) / shares;
            if (adds_decay(step))
                for (int64_t i = 0; i < p.sizes[0]; ++i) decayed += decay(step, w + i * units + first, last - first);
            of.descend(step.m, first, last, delta, T(step.rate), kept_share(step));
            return decayed;
        }
        const auto moments = [&](int number, int64_t at) {
            const void* there = keeps_ ? (number == 1 ? p.gradient : nullptr) : number == 1 ? p.first : p.second;
            return there ? of.table(number) + at : nullptr;
        };
        of.gradient(step.m, share, shares, delta, gradient, SPARSE_BLOCK, [&](int64_t input, int64_t inputs) {
            const int64_t at = input * units, n = inputs * units;
            decayed += decay(step, w + at, n);
            move_weights(step, {w + at, moments(1, at), moments(2, at)}, gradient, n);
            return !layers.stopped();
        });
        return decayed;
    }

    // Moves some biases of a layer by the sum of their deltas.
    void biases(const Minibatch<T>& step, T* biases, int64_t units, const Rows& delta, int64_t part) const {
        if (units == 0) return;
        T* sums = layers.own[part];
        layers.sum_rows(delta.entries, step.m, units, delta.stride, sums);
        move(step, entries(biases), sums, units, false);
    }

    // Moves some weights by their gradient and what the penalty adds to it.
    void move_weights(const Minibatch<T>& step, const Entries& of, T* gradient, int64_t n) const {
        const T penalty = T(p.penalties[step.k]), *own = of.theta;
        if (penalty != T(0) && !keeps_)
            for (int64_t i = 0; i < n; ++i) gradient[i] += penalty * own[i];
        move(step, of, gradient, n, true);
    }

    // Moves some entries by their gradient, or keeps that.
    void move(const Minibatch<T>& step, const Entries& of, const T* gradient, int64_t n, bool decayed) const {
        if (keeps_) {
            std::copy_n(gradient, n, of.first);
            return;
        }
        const T keep = decayed ? T(1 - step.decay) : T(1);
        with_optimizer(int(p.optimizer), [&](auto rule) { move_by<decltype(rule)>(step, of, gradient, n, keep); });
    }

    // What the penalty of these weights adds to the cost of an epoch, where the plan asks for it.
    double decay(const Minibatch<T>& step, const WeightBlock<T>& of) const {
        if (!adds_decay(step)) return 0;
        double squares = 0;
        for (int64_t unit = 0; unit < of.units; ++unit)
            squares += layers.squared_norm(of.weights + unit * of.stride, of.inputs);
        return p.decays[step.k] * squares;
    }
    double decay(const Minibatch<T>& step, T* weights, int64_t n) const {
        return decay(step, {weights, 1, n, n, true});
    }
    bool adds_decay(const Minibatch<T>& step) const { return p.decays && p.decays[step.k] != 0.0 && !keeps_; }

private:
    const EpochPlan& p;
    const Layers<T>& layers;
    const optimizer::Constants<T> constants_;
    const bool descends_, keeps_;

    // Whether a matrix product is the whole step: plain descent, W := (1 - eta lambda) W - eta dJ/dW, or the gradient
    // itself. Then: the factor of dJ/dW in it, the factor of W, and where it is written.
    bool in_one_product() const { return descends_ || keeps_; }
    T factor(const Minibatch<T>& step) const { return keeps_ ? T(1) : -T(step.rate); }
    T kept_share(const Minibatch<T>& step) const {
        return keeps_ ? T(0) : T(1) - T(step.rate) * T(p.penalties[step.k]);
    }
    T* target(T* theta) const { return keeps_ ? entries(theta).first : theta; }

    // alpha times the gradient of the first units of a block, and beta times what was there, into `out`.
    template <class Operand>
    void gradient(const WeightBlock<T>& of, int64_t units, int64_t m, const Rows& delta, const Operand& a, T alpha,
                  T beta, T* out, int64_t out_stride) const {
        if (!of.small && panels::ARE_FASTER)
            return panels::InPlace<T, Operand>{units, of.inputs, m,       delta.entries, 1,   delta.stride, a,
                                               alpha, beta,      nullptr, out,           out_stride}();
        if (!of.small)
            return layers.gemm('N', 'T', of.inputs, units, m, alpha, a.row(0), a.stride, delta.entries, delta.stride,
                               beta, out, out_stride);
        const int64_t AT_ONCE = int64_t(OPERATIONS_AT_ONCE) / (2 * SMALL);
        for (int64_t i = 0; i < m && !layers.stopped(); i += AT_ONCE)
            small_product::Product<T, 0, small_product::Entries<T>, Operand>{
                units, of.inputs, std::min(AT_ONCE, m - i), delta.entries + i * delta.stride, 1, delta.stride,
                a.from_row(i), alpha, i == 0 ? beta : T(1), nullptr, out, out_stride}();
    }

    // `weights`, a panel of inputs at a time.
    template <class Operand>
    void weights_in_panels(const Minibatch<T>& step, const WeightBlock<T>& of, const Rows& delta, const Operand& a,
                           int64_t part) const {
        const int64_t m = step.m, WIDTH = panels::width<T>();
        const auto stop = [&] { return layers.stopped(); };
        // All units at once where the product is all, of others as many as the gradient has room for.
        const int64_t at_once = in_one_product() ? of.units : GRADIENT_BLOCK / WIDTH;
        for (int64_t unit = 0; unit < of.units; unit += at_once) {
            const int64_t units = std::min(at_once, of.units - unit);
            T *tiles = layers.tiles[part], *w = of.weights + unit * of.stride, *sums = layers.own[part];
            panels::rearrange_first(units, m, delta.entries + unit, delta.stride, tiles, stop);
            if (in_one_product()) {
                T* out = target(w);
                panels::multiply_rearranged(
                    units, of.inputs, m, tiles, a, factor(step), kept_share(step),
                    [&](int64_t j) { return out + j; }, of.stride, layers.panel[part], stop, [](int64_t, int64_t) {});
                continue;
            }
            panels::multiply_rearranged(
                units, of.inputs, m, tiles, a, T(1), T(0), [&](int64_t) { return sums; }, WIDTH,
                layers.panel[part], stop, [&](int64_t j, int64_t columns) {
                    for (int64_t i = 0; i < units; ++i)
                        move_weights(step, entries(w + i * of.stride + j), sums + i * WIDTH, columns);
                });
        }
    }

    template <class Rule>
    void move_by(const Minibatch<T>& step, const Entries& of, const T* gradient, int64_t n, T keep) const {
        const optimizer::Constants<T> constants = constants_;
        const T rate = T(step.rate);
        T *theta = of.theta, *first = of.first, *second = of.second;
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
            T m = Rule::moments > 0 ? first[i] : T(0), v = Rule::moments > 1 ? second[i] : T(0);
            theta[i] = Rule::step(Rule::decays ? keep * theta[i] : theta[i], gradient[i], m, v, rate, constants);
            if (Rule::moments > 0) first[i] = m;
            if (Rule::moments > 1) second[i] = v;
        }
    }
};
