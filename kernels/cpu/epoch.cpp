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
// The arithmetic stands in activation.cuh, loss.cuh and optimizer.cuh. Matrix products go to the sgemm and dgemm (with
// Fortran's interface, which takes a row-major matrix for its transpose) that the caller passes. Several threads call
// them at once, and each call should use one thread. -DDELTAPROP_REAL=float or double is the type.
//
// The inputs may be encoded (encoded_inputs.h): then one thread trains the network, and its first layer has a form of
// its own.
#ifndef DELTAPROP_REAL  // in an editor
#define DELTAPROP_REAL float
#endif
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"
#include "cpu/blas.h"
#include "cpu/encoded_inputs.h"
#include "cpu/hidden_layer.h"
#include "cpu/output_layer.h"
#include "cpu/panels.h"
#include "cpu/small_product.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

extern "C" struct EpochPlan {
    int64_t layers;              // weight matrices
    const int64_t* sizes;        // (layers + 1,)
    const int64_t* activations;  // (layers,), numbers as in names.cuh
    int64_t loss;                // its number, as in names.cuh
    void* parameters;            // all weights, layer by layer, then all biases
    const void* x;               // (samples, sizes[0]), or (samples, encoding->columns)
    const EncodedInputs* encoding;  // what the inputs are made of, or null
    const void* y;               // (samples, sizes[layers])
    const void* weights;         // (samples,) of each epoch, in its order, or null
    const int64_t* order;        // (samples,) of each epoch, or null
    int64_t weights_stride, order_stride;  // entries from one epoch's to the next epoch's
    int64_t samples, batch;
    const double *scales, *penalties, *decays;  // one a minibatch: of delta^(L); of W in its gradient; of sum W^2
    int64_t optimizer;                          // its number, as in names.cuh
    void *first, *second;                       // the moments, or null
    optimizer::Constants<double> constants;     // of the optimizer
    const double* rates;               // two numbers a step: the learning rate, with Adam's bias corrections; the share
                                       // of the weights that weight decay takes off
    int64_t rates_stride, step_stride;  // entries from one epoch's to the next epoch's, and from one step's to the next
    int64_t epochs;
    int64_t first_batch, last_batch;   // which minibatches of each
    int64_t threads;                   // at most; they decide into how many parts a phase falls
    void* scratch;
    double *cost, *decay;  // (epochs,), added to
    double* carried;  // (2, threads) or null: the costs and penalties of each thread, for calls of one epoch that go on
                      // with the sums of the call before; cost and decay stay as they are
    void* outputs;  // (samples, sizes[layers]) or null, of evaluations only
    void* gemm;
    const volatile int32_t* stop;  // once it is not 0 the rest is left undone, in the middle of a step; or null
};

DELTAPROP_EXPORT_SIZE(EpochPlan)

namespace {

// Weights of a layer up to which its products are ours; measured, between 64 x 100 and 784 x 30.
const int64_t SMALL = 12800;

// Entries of the gradient that a thread holds at a time where it needs them apart from the weights.
const int64_t GRADIENT_BLOCK = 32768;

using blas::OPERATIONS_AT_ONCE;

template <typename T> class Run {
public:
    explicit Run(const EpochPlan& plan)
        : p(plan), constants_(optimizer::constants_as<T>(plan.constants)),
          descends_(with_optimizer(int(plan.optimizer), [](auto rule) { return decltype(rule)::descends; })) {
        T *weights = static_cast<T*>(p.parameters), *scratch = static_cast<T*>(p.scratch);
        for (int64_t l = 0; l < p.layers; ++l) {
            W_.push_back(weights);
            weights += p.sizes[l] * p.sizes[l + 1];
        }
        for (int64_t l = 0; l < p.layers; ++l) {
            b_.push_back(weights);
            weights += p.sizes[l + 1];
        }
        A_.push_back(scratch);
        scratch += first_entries(p);
        for (int64_t l = 0; l < p.layers; ++l) {
            const int64_t entries = padded(p.batch * p.sizes[l + 1]);
            Z_.push_back(scratch);
            A_.push_back(scratch + entries);
            D_.push_back(scratch + 2 * entries);
            scratch += 3 * entries;
        }
        widest_ = *std::max_element(p.sizes, p.sizes + p.layers + 1);
        for (int64_t t = 0; t < p.threads; ++t, scratch += padded(block_entries() + widest_))
            gradient_.push_back(scratch);
        for (int64_t t = 0; t < p.threads; ++t, scratch += panel_entries(p)) panel_.push_back(scratch);
        for (int64_t t = 0; t < p.threads; ++t, scratch += tiles_entries(p, widest_)) tiles_.push_back(scratch);
        if (p.encoding) encoded_.emplace(*p.encoding, p.sizes[1], p.batch, A_[0]);
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

    // Room for a panel of an operand, where there is a layer whose products are formed so.
    static int64_t panel_entries(const EpochPlan& p) {
        for (int64_t l = 0; l < p.layers && panels::ARE_FASTER; ++l)
            if (p.sizes[l] * p.sizes[l + 1] > SMALL) return panels::room<T>();
        return 0;
    }

    // And for a share of delta of the widest layer, rearranged.
    static int64_t tiles_entries(const EpochPlan& p, int64_t widest) {
        return panel_entries(p) ? padded(p.batch * ((widest + p.threads - 1) / p.threads)) : 0;
    }

    static int64_t padded(int64_t entries) { return (entries + 15) / 16 * 16; }

    // Room for the inputs of a minibatch, or for what there is in their place.
    static int64_t first_entries(const EpochPlan& p) {
        return p.encoding ? encoded::Layer<T>::entries(*p.encoding, p.sizes[1], p.batch) : padded(p.batch * p.sizes[0]);
    }

    static int64_t scratch_entries(const EpochPlan& p) {
        int64_t entries = first_entries(p), widest = p.sizes[0];
        for (int64_t l = 0; l < p.layers; ++l) {
            entries += 3 * padded(p.batch * p.sizes[l + 1]);
            widest = std::max(widest, p.sizes[l + 1]);
        }
        const int64_t gradient = padded(std::max(GRADIENT_BLOCK, widest) + widest);
        return entries + p.threads * (gradient + panel_entries(p) + tiles_entries(p, widest));
    }

    void operator()() {
        const int parts = int(p.threads);
        const Entries first = entries(W_[0]);
        if (encoded_) encoded_->take_over(first.theta, first.first, first.second);
        const int64_t a_step = int64_t(stretches_.size()) + 1;
        threads::Phases phases(a_step * (p.last_batch - p.first_batch) * p.epochs, parts);
        threads::run(parts, [&](int thread) {
            phases.work(thread, [&](int64_t phase, int part) { share(phase / a_step, phase % a_step, part); });
        });
        if (stopped()) return;
        if (encoded_) encoded_->give_back(first.theta, first.first, first.second);
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

    // The cost of all samples, added to the plan's, where there are targets, and their outputs, where there is room.
    void evaluate() {
        const int64_t columns = p.sizes[p.layers];
        trains_ = false;
        if (encoded_) encoded_->take_over(W_[0], nullptr, nullptr);
        for (int64_t k = 0; k * p.batch < p.samples && !stopped(); ++k) {
            const Step step(p, k);
            const Block all{0, step.m, 0, 0};
            gather(step, all);
            for (int64_t l = 0; l < p.layers; ++l) forward(step, l, 0, {0, step.m, 0, p.sizes[l + 1]});
            if (p.y) *p.cost += output_delta(step, 0, step.m, T(0));
            if (p.outputs)
                output_layer::outputs(last_rows(0, step.m), static_cast<T*>(p.outputs) + step.start * columns);
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

    const EpochPlan& p;
    const optimizer::Constants<T> constants_;
    const bool descends_;
    bool trains_ = true;  // forward passes keep g' for the way back
    std::optional<encoded::Layer<T>> encoded_;
    bool stopped() const { return p.stop && *p.stop; }
    std::vector<T*> W_, b_, A_, Z_, D_, gradient_, panel_, tiles_;
    std::vector<double> costs_, decays_;
    int64_t widest_;
    // The operations of a step before its update, in stretches that are a phase each.
    struct Stretch { int64_t first, last; bool of_units; };
    std::vector<Stretch> stretches_;

    int64_t block_entries() const { return std::max(GRADIENT_BLOCK, widest_); }

    // Minibatch k of an epoch: its first sample, how many it has, and what of the plan belongs to it.
    struct Step {
        int64_t epoch, k, start, m;
        const int64_t* order;
        const T* weights;
        double rate, decay;

        Step(const EpochPlan& p, int64_t number) {
            const int64_t batches = p.last_batch - p.first_batch;
            epoch = number / batches;
            k = p.first_batch + number % batches;
            start = k * p.batch;
            m = std::min(p.batch, p.samples - start);
            order = p.order ? p.order + epoch * p.order_stride : nullptr;
            weights = p.weights ? static_cast<const T*>(p.weights) + epoch * p.weights_stride : nullptr;
            const double* now = p.rates ? p.rates + epoch * p.rates_stride + k * p.step_stride : nullptr;
            rate = now ? now[0] : 0.0, decay = now ? now[1] : 0.0;
        }
        int64_t row(int64_t i) const { return order ? order[start + i] : start + i; }
        T weight(int64_t i) const { return weights ? weights[start + i] : T(1); }
    };

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
            const int64_t units = p.sizes[l + 1];
            update(step, l, units * part / p.threads, units * (part + 1) / p.threads, part);
        }
    }

    // -- matrix products: C (rows, columns) := alpha op(A) op(B) + beta C, all row-major ------------------------

    // Whether those of a layer are small enough for tiles of our own: all of its weights stay in the first cache.
    bool is_small(int64_t l) const { return p.sizes[l] * p.sizes[l + 1] <= SMALL; }

    // Whether those of a minibatch, or of so many of its rows, are worth rearranging an operand for.
    static bool in_panels(int64_t rows) { return panels::ARE_FASTER && rows >= panels::FEWEST_ROWS; }

    typedef small_product::Product<T> Product;

    void gemm(char of_b, char of_a, int64_t columns, int64_t rows, int64_t inner, T alpha, const T* B, int64_t b_stride,
              const T* A, int64_t a_stride, T beta, T* C, int64_t c_stride) const {
        blas::Product<T>{p.gemm, p.stop}(of_b, of_a, columns, rows, inner, alpha, B, b_stride, A, a_stride, beta, C,
                                         c_stride);
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
        return !is_small(layer(operation)) && units(operation) > p.batch;
    }

    // Where the share of a part begins among so many units: at the beginning of a cache line.
    int64_t bound(int64_t width, int64_t part) const {
        return part == p.threads ? width : width * part / p.threads / 16 * 16;
    }

    // Rows `from` to `to` of a minibatch, and of these the units `first` to `last`.
    struct Block {
        int64_t from, to, first, last;
        int64_t rows() const { return to - from; }
        int64_t units() const { return last - first; }
    };

    void operate(const Step& step, int64_t operation, int64_t part, const Block& block) {
        if (operation == 0) gather(step, block);
        else if (operation <= p.layers) forward(step, layer(operation), part, block);
        else if (operation > p.layers + 1) backward(layer(operation), part, block);
        else costs_[step.epoch * p.threads + part] += output_delta(step, block.from, block.to, T(p.scales[step.k]));
    }

    const T* input(const Step& step, int64_t l) const {
        return l == 0 && !step.order ? static_cast<const T*>(p.x) + step.start * p.sizes[0] : A_[l];
    }

    void gather(const Step& step, const Block& block) {
        const int64_t inputs = p.sizes[0];
        // All samples in the order of the epoch before stand there already.
        if ((!step.order && !encoded_) || (step.epoch != 0 && p.order_stride == 0 && step.m == p.samples)) return;
        if (encoded_) {
            const T* x = static_cast<const T*>(p.x);
            return encoded_->read_rows(block.from, block.to,
                                       [&](int64_t i) { return x + step.row(i) * p.encoding->columns; });
        }
        for (int64_t i = block.from; i < block.to; ++i)
            std::memcpy(A_[0] + i * inputs, static_cast<const T*>(p.x) + step.row(i) * inputs, inputs * sizeof(T));
    }

    void forward(const Step& step, int64_t l, int64_t part, const Block& block) {
        if (l == 0 && encoded_) return forward_encoded(block);
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], n = block.rows(), units = block.units();
        const T* a = input(step, l) + block.from * s_in;
        T *z = Z_[l] + block.from * s_out + block.first, *next = A_[l + 1] + block.from * s_out + block.first;
        if (!is_small(l) && in_panels(n)) {
            const panels::Second<T> transposed{W_[l] + block.first * s_in, s_in, true};
            const bool last = l == p.layers - 1;
            panels::multiply(n, units, s_in, a, s_in, transposed, b_[l] + block.first, z, s_out, panel_[part],
                             [&] { return stopped(); }, [&](int64_t j, int64_t columns) {
                                 for (int64_t i = 0; i < n && !last; ++i)
                                     value(p.activations[l], z + i * s_out + j, next + i * s_out + j, columns);
                             });
            return;
        }
        if (is_small(l)) {
            T* transposed = gradient_[part];
            const T* w = W_[l];
            for (int64_t i = 0; i < s_in; ++i)
#pragma GCC ivdep
                for (int64_t j = 0; j < s_out; ++j) transposed[i * s_out + j] = w[j * s_in + i];
            Product{n, s_out, s_in, a, s_in, 1, transposed, s_out, T(1), T(0), b_[l], z, s_out}();
        } else {
            for (int64_t i = 0; i < n; ++i) std::memcpy(z + i * s_out, b_[l] + block.first, units * sizeof(T));
            gemm('T', 'N', units, n, s_in, T(1), W_[l] + block.first * s_in, s_in, a, s_in, T(1), z, s_out);
        }
        if (l == p.layers - 1) return;
        each_row(block, s_out,
                 [&](int64_t at, int64_t entries) { value(p.activations[l], z + at, next + at, entries); });
    }

    void forward_encoded(const Block& block) {
        const int64_t s_out = p.sizes[1], at = block.from * s_out;
        encoded_->forward(block.from, block.to, b_[0], Z_[0]);
        if (p.layers > 1) value(p.activations[0], Z_[0] + at, A_[1] + at, block.rows() * s_out);
    }

    // delta of layer l from delta of the layer after it.
    void backward(int64_t l, int64_t part, const Block& block) {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], n = block.rows(), units = block.units();
        const int64_t start = block.from * s_in + block.first;
        const T *next = D_[l] + block.from * s_out, *slope = Z_[l - 1] + start;
        T* delta = D_[l - 1] + start;
        if (!is_small(l) && in_panels(n)) {
            const panels::Second<T> weights{W_[l] + block.first, s_in, false};
            panels::multiply<T>(n, units, s_out, next, s_out, weights, nullptr, delta, s_in, panel_[part],
                                [&] { return stopped(); }, [&](int64_t j, int64_t columns) {
                                    for (int64_t i = 0; i < n; ++i)
                                        hidden_layer::times(slope + i * s_in + j, delta + i * s_in + j, columns);
                                });
            return;
        }
        if (is_small(l)) Product{n, s_in, s_out, next, s_out, 1, W_[l], s_in, T(1), T(0), nullptr, delta, s_in}();
        else gemm('N', 'N', units, n, s_out, T(1), W_[l] + block.first, s_in, next, s_out, T(0), delta, s_in);
        each_row(block, s_in,
                 [&](int64_t at, int64_t entries) { hidden_layer::times(slope + at, delta + at, entries); });
    }

    // Of rows `stride` apart the entries of a block: where they begin and how many there are, all at once where they
    // adjoin.
    template <class Do> static void each_row(const Block& block, int64_t stride, Do run) {
        if (block.units() == stride) return run(0, block.rows() * stride);
        for (int64_t i = 0; i < block.rows(); ++i) run(i * stride, block.units());
    }

    void value(int64_t activation, T* z, T* a, int64_t n) const {
        if (trains_) hidden_layer::value_and_slope(activation, z, a, n);
        else hidden_layer::value(activation, z, a, n);
    }

    // The cost of these rows; delta^(L) of them into D_. a^(L) is not kept.
    double output_delta(const Step& step, int64_t from, int64_t to, T scale) {
        const T* y = static_cast<const T*>(p.y);
        const int64_t columns = p.sizes[p.layers];
        return output_layer::cost_and_delta(
            last_rows(from, to), [&](int64_t i) { return y + step.row(from + i) * columns; },
            [&](int64_t i) { return step.weight(from + i); }, scale);
    }

    output_layer::Rows<T> last_rows(int64_t from, int64_t to) const {
        const int64_t last = p.layers - 1, columns = p.sizes[p.layers], at = from * columns;
        return {p.loss, p.activations[last], to - from, columns, Z_[last] + at, D_[last] + at, A_[p.layers] + at};
    }

    // -- the update: units `from` to `to` of layer l -------------------------------------------------------------

    void update(const Step& step, int64_t l, int64_t from, int64_t to, int64_t part) {
        if (from == to) return;
        if (l == 0 && encoded_) return update_encoded(step, part);
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], m = step.m, k = step.k;
        const T* a = input(step, l);
        const T *delta = D_[l] + from, rate = T(step.rate), penalty = T(p.penalties[k]);
        T *weights = W_[l] + from * s_in, *gradient = gradient_[part];
        if (p.decays && p.decays[k] != 0.0)
            decays_[step.epoch * p.threads + part] += p.decays[k] * squared_norm(weights, (to - from) * s_in);
        if (!is_small(l) && in_panels(m)) {
            update_in_panels(step, l, from, to, part, a);
        } else if (descends_) {
            gradient_of(l, from, to - from, m, a, -rate, T(1) - rate * penalty, weights);
        } else {
            const int64_t at_once = std::max<int64_t>(1, block_entries() / s_in);
            for (int64_t unit = from; unit < to; unit += at_once) {
                const int64_t units = std::min(at_once, to - unit), n = units * s_in;
                T* w = W_[l] + unit * s_in;
                gradient_of(l, unit, units, m, a, T(1), T(0), gradient);
                if (penalty != T(0))
                    for (int64_t i = 0; i < n; ++i) gradient[i] += penalty * w[i];
                move(step, entries(w), gradient, n, true);
            }
        }
        sum_rows(delta, m, to - from, s_out, gradient);
        move(step, entries(b_[l] + from), gradient, to - from, false);
    }

    // The same of a first layer whose inputs are encoded, all units at once.
    void update_encoded(const Step& step, int64_t part) {
        const int64_t s_out = p.sizes[1], m = step.m;
        const T penalty = T(p.penalties[step.k]);
        T* sums = gradient_[part];
        sum_rows(D_[0], m, s_out, s_out, sums);
        encoded_->sort(m);
        for (const auto& piece : encoded_->moved()) {
            if (stopped()) return;
            T *w = encoded_->weights(piece), *gradient = encoded_->gradient(piece, m, D_[0], sums);
            const int64_t n = encoded_->entries_of(piece);
            if (p.decays && p.decays[step.k] != 0.0)
                decays_[step.epoch * p.threads + part] += p.decays[step.k] * squared_norm(w, n);
            if (penalty != T(0))
                for (int64_t i = 0; i < n; ++i) gradient[i] += penalty * w[i];
            move(step, {w, encoded_->moment(0, piece), encoded_->moment(1, piece)}, gradient, n, true);
            encoded_->add_up(piece);
        }
        move(step, entries(b_[0]), sums, s_out, false);
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
            T *tiles = tiles_[part], *w = W_[l] + unit * s_in, *gradient = gradient_[part];
            const auto stop = [&] { return stopped(); };
            panels::rearrange_first(units, m, D_[l] + unit, s_out, tiles, stop);
            if (descends_) {
                panels::multiply_rearranged(
                    units, s_in, m, tiles, inputs, -rate, T(1) - rate * penalty, [&](int64_t j) { return w + j; }, s_in,
                    panel_[part], stop, [](int64_t, int64_t) {});
                continue;
            }
            panels::multiply_rearranged(
                units, s_in, m, tiles, inputs, T(1), T(0), [&](int64_t) { return gradient; }, WIDTH, panel_[part], stop,
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

    // Sums over m rows, `stride` apart, of so many columns: 16 of them at a time, in registers.
    static void sum_rows(const T* x, int64_t m, int64_t columns, int64_t stride, T* sums) {
        int64_t j = 0;
        for (; columns - j >= 16; j += 16) add_up<16>(x + j, m, stride, sums + j);
        for (; columns - j >= 4; j += 4) add_up<4>(x + j, m, stride, sums + j);
        for (; j < columns; ++j) add_up<1>(x + j, m, stride, sums + j);
    }
    template <int COLUMNS> static void add_up(const T* x, int64_t m, int64_t stride, T* sums) {
        T own[COLUMNS] = {};
        for (int64_t i = 0; i < m; ++i, x += stride)
            for (int c = 0; c < COLUMNS; ++c) own[c] += x[c];
        for (int c = 0; c < COLUMNS; ++c) sums[c] = own[c];
    }

    // alpha times the sum over samples of delta a^T for some units of layer l, and beta times what was there, into
    // `out`.
    void gradient_of(int64_t l, int64_t unit, int64_t units, int64_t m, const T* a, T alpha, T beta, T* out) const {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        const T* delta = D_[l] + unit;
        if (!is_small(l)) return gemm('N', 'T', s_in, units, m, alpha, a, s_in, delta, s_out, beta, out, s_in);
        const int64_t AT_ONCE = int64_t(OPERATIONS_AT_ONCE) / (2 * SMALL);
        for (int64_t i = 0; i < m && !stopped(); i += AT_ONCE)
            Product{units, s_in, std::min(AT_ONCE, m - i), delta + i * s_out, 1, s_out, a + i * s_in, s_in, alpha,
                    i == 0 ? beta : T(1), nullptr, out, s_in}();
    }

    static double squared_norm(const T* w, int64_t n) {
        T sums[16] = {};
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (int j = 0; j < 16; ++j) sums[j] += w[i + j] * w[i + j];
        for (; i < n; ++i) sums[0] += w[i] * w[i];
        double sum = 0;
        for (int j = 0; j < 16; ++j) sum += sums[j];
        return sum;
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

}  // namespace

extern "C" int64_t scratch_entries(const EpochPlan* plan) { return Run<DELTAPROP_REAL>::scratch_entries(*plan); }
extern "C" void run(const EpochPlan* plan) { Run<DELTAPROP_REAL>{*plan}(); }

namespace {

// run(plan) for the plans that `which`, (count,), names, in this order, each by one thread at a time. The scratch of
// the first plan has room for each of `threads` threads, `stride` entries apart.
template <class Do>
void each_member(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads, int64_t stride, Do run) {
    std::atomic<int64_t> next{0};
    threads::run(int(threads), [&](int thread) {
        for (int64_t i; (i = next.fetch_add(1)) < count;) {
            EpochPlan plan = plans[which[i]];
            if (plan.stop && *plan.stop) return;
            plan.threads = 1;
            plan.scratch = static_cast<DELTAPROP_REAL*>(plans[0].scratch) + thread * stride;
            run(plan);
        }
    });
}

}  // namespace

// Trains several networks; see each_member.
extern "C" void run_members(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads,
                            int64_t stride) {
    each_member(plans, which, count, threads, stride, [](const EpochPlan& plan) { Run<DELTAPROP_REAL>{plan}(); });
}

// The costs of several networks, and their outputs, over all samples of each; see each_member.
extern "C" void evaluate_members(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads,
                                 int64_t stride) {
    each_member(plans, which, count, threads, stride,
                [](const EpochPlan& plan) { Run<DELTAPROP_REAL>{plan}.evaluate(); });
}
