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
#ifndef DELTAPROP_REAL  // in an editor
#define DELTAPROP_REAL float
#endif
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"
#include "cpu/panels.h"
#include "cpu/small_product.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" struct EpochPlan {
    int64_t layers;              // weight matrices
    const int64_t* sizes;        // (layers + 1,)
    const int64_t* activations;  // (layers,), numbers as in names.cuh
    int64_t loss;                // its number, as in names.cuh
    void* parameters;            // all weights, layer by layer, then all biases
    const void* x;               // (samples, sizes[0])
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
    void* gemm;
    const volatile int32_t* stop;  // once it is not 0 the rest is left undone, in the middle of a step; or null
};

DELTAPROP_EXPORT_SIZE(EpochPlan)

namespace {

// Weights of a layer up to which its products are ours; measured, between 64 x 100 and 784 x 30.
const int64_t SMALL = 12800;

// Entries of the gradient that a thread holds at a time where it needs them apart from the weights.
const int64_t GRADIENT_BLOCK = 32768;

// Floating-point operations after which a thread looks whether it is to stop, however large a step is: some tenths of a
// second of one core. Nothing that is smaller is divided for it.
const double OPERATIONS_AT_ONCE = 4e9;

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
        scratch += padded(p.batch * p.sizes[0]);
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
        costs_.assign(p.threads * p.epochs, 0.0);
        decays_.assign(p.threads * p.epochs, 0.0);
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

    static int64_t scratch_entries(const EpochPlan& p) {
        int64_t entries = padded(p.batch * p.sizes[0]), widest = p.sizes[0];
        for (int64_t l = 0; l < p.layers; ++l) {
            entries += 3 * padded(p.batch * p.sizes[l + 1]);
            widest = std::max(widest, p.sizes[l + 1]);
        }
        const int64_t gradient = padded(std::max(GRADIENT_BLOCK, widest) + widest);
        return entries + p.threads * (gradient + panel_entries(p) + tiles_entries(p, widest));
    }

    void operator()() {
        const int parts = int(p.threads);
        const int64_t a_step = int64_t(stretches_.size()) + 1;
        threads::Phases phases(a_step * (p.last_batch - p.first_batch) * p.epochs, parts);
        threads::run(parts, [&](int thread) {
            phases.work(thread, [&](int64_t phase, int part) { share(phase / a_step, phase % a_step, part); });
        });
        if (stopped()) return;
        for (int64_t i = 0; i < parts * p.epochs; ++i) {
            p.cost[i / parts] += costs_[i];
            p.decay[i / parts] += decays_[i];
        }
    }

private:
    const EpochPlan& p;
    const optimizer::Constants<T> constants_;
    const bool descends_;
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
            const double* now = p.rates + epoch * p.rates_stride + k * p.step_stride;
            rate = now[0], decay = now[1];
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

    // By the BLAS; a large one by halves of its longest side.
    void gemm(char of_b, char of_a, int64_t columns, int64_t rows, int64_t inner, T alpha, const T* B, int64_t b_stride,
              const T* A, int64_t a_stride, T beta, T* C, int64_t c_stride) const {
        if (stopped()) return;
        if (2.0 * double(columns) * double(rows) * double(inner) > OPERATIONS_AT_ONCE) {
            const auto half = [](int64_t side) { return side / 2 / 16 * 16; };
            const auto beside = [](char of, int64_t row, int64_t column, int64_t stride) {
                return of == 'N' ? row * stride + column : column * stride + row;
            };
            int64_t of_columns = columns, of_rows = rows, of_inner = inner, row = 0, column = 0, k = 0;
            if (inner >= rows && inner >= columns) of_inner = k = half(inner);
            else if (rows >= columns) of_rows = row = half(rows);
            else of_columns = column = half(columns);
            gemm(of_b, of_a, of_columns, of_rows, of_inner, alpha, B, b_stride, A, a_stride, beta, C, c_stride);
            return gemm(of_b, of_a, columns - column, rows - row, inner - k, alpha,
                        B + beside(of_b, k, column, b_stride), b_stride, A + beside(of_a, row, k, a_stride), a_stride,
                        k ? T(1) : beta, C + row * c_stride + column, c_stride);
        }
        typedef void (*Function)(char*, char*, int*, int*, int*, T*, T*, int*, T*, int*, T*, T*, int*);
        int n = int(columns), m = int(rows), k = int(inner);
        int ldb = int(b_stride), lda = int(a_stride), ldc = int(c_stride);
        reinterpret_cast<Function>(p.gemm)(&of_b, &of_a, &n, &m, &k, &alpha, const_cast<T*>(B), &ldb,
                                           const_cast<T*>(A), &lda, &beta, C, &ldc);
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
        if (!step.order || (step.epoch != 0 && p.order_stride == 0 && step.m == p.samples)) return;
        for (int64_t i = block.from; i < block.to; ++i)
            std::memcpy(A_[0] + i * inputs, static_cast<const T*>(p.x) + step.row(i) * inputs, inputs * sizeof(T));
    }

    void forward(const Step& step, int64_t l, int64_t part, const Block& block) {
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

    // delta of layer l from delta of the layer after it.
    void backward(int64_t l, int64_t part, const Block& block) {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], n = block.rows(), units = block.units();
        const int64_t start = block.from * s_in + block.first;
        const T *next = D_[l] + block.from * s_out, *z = Z_[l - 1] + start;
        T* delta = D_[l - 1] + start;
        if (!is_small(l) && in_panels(n)) {
            const panels::Second<T> weights{W_[l] + block.first, s_in, false};
            panels::multiply<T>(n, units, s_out, next, s_out, weights, nullptr, delta, s_in, panel_[part],
                                [&] { return stopped(); }, [&](int64_t j, int64_t columns) {
                                    for (int64_t i = 0; i < n; ++i)
                                        times_gradient(p.activations[l - 1], z + i * s_in + j, delta + i * s_in + j,
                                                       columns);
                                });
            return;
        }
        if (is_small(l)) Product{n, s_in, s_out, next, s_out, 1, W_[l], s_in, T(1), T(0), nullptr, delta, s_in}();
        else gemm('N', 'N', units, n, s_out, T(1), W_[l] + block.first, s_in, next, s_out, T(0), delta, s_in);
        each_row(block, s_in, [&](int64_t at, int64_t entries) {
            times_gradient(p.activations[l - 1], z + at, delta + at, entries);
        });
    }

    // Of rows `stride` apart the entries of a block: where they begin and how many there are, all at once where they
    // adjoin.
    template <class Do> static void each_row(const Block& block, int64_t stride, Do run) {
        if (block.units() == stride) return run(0, block.rows() * stride);
        for (int64_t i = 0; i < block.rows(); ++i) run(i * stride, block.units());
    }

    // Flattened: a loop around a function that is called, and not inlined, does not become vector instructions.
    __attribute__((flatten)) static void value(int64_t activation, const T* z, T* a, int64_t n) {
        with_activation(int(activation), [=](auto g) {
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) a[i] = decltype(g)::value(z[i]);
        });
    }
    __attribute__((flatten)) static void times_gradient(int64_t activation, const T* z, T* delta, int64_t n) {
        with_activation(int(activation), [=](auto g) {
#pragma GCC ivdep
            for (int64_t i = 0; i < n; ++i) delta[i] *= decltype(g)::gradient(z[i]);
        });
    }

    // The cost of these rows; delta^(L) of them into D_. a^(L) is not kept.
    double output_delta(const Step& step, int64_t from, int64_t to, T scale) {
        if (p.loss == loss_number::categorical_cross_entropy)
            return softmax_rows<loss::categorical_cross_entropy>(step, from, to, scale);
        if (p.loss == loss_number::clipped_categorical_cross_entropy)
            return softmax_rows<loss::clipped_categorical_cross_entropy>(step, from, to, scale);
        const int64_t last = p.layers - 1, columns = p.sizes[p.layers];
        double cost = 0;
        for (int64_t i = from; i < to; ++i) {
            const T weight = step.weight(i);
            T* delta = D_[last] + i * columns;
            cost += weight * row(Z_[last] + i * columns, target(step, i), delta, columns, weight * scale);
        }
        return cost;
    }

    const T* target(const Step& step, int64_t i) const {
        return static_cast<const T*>(p.y) + step.row(i) * p.sizes[p.layers];
    }

    // A block of rows at a time, so that exponentials and logarithms are taken of many numbers at once.
    template <class Loss> double softmax_rows(const Step& step, int64_t from, int64_t to, T scale) {
        const int64_t last = p.layers - 1, columns = p.sizes[p.layers], AT_ONCE = 256;
        T sums[AT_ONCE], others[AT_ONCE], logs[AT_ONCE];
        double cost = 0;
        for (int64_t first = from; first < to; first += AT_ONCE) {
            const int64_t n = std::min(AT_ONCE, to - first), entries = n * columns;
            const T* z = Z_[last] + first * columns;
            T *delta = D_[last] + first * columns, *below_top = A_[p.layers] + first * columns;
            for (int64_t i = 0; i < n; ++i) {
                const T* own = z + i * columns;
                T top = own[0];
                for (int64_t j = 1; j < columns; ++j) top = own[j] > top ? own[j] : top;  // NaN: its exponential tells
                for (int64_t j = 0; j < columns; ++j) below_top[i * columns + j] = own[j] - top;
            }
#pragma GCC ivdep
            for (int64_t e = 0; e < entries; ++e) delta[e] = fast_math::exp_of_negative(below_top[e]);
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
                const T *y = target(step, first + i), *own = below_top + i * columns;
                const T weight = step.weight(first + i), share = T(1) / sums[i], factor = weight * scale;
                T *out = delta + i * columns, terms = 0;
                for (int64_t j = 0; j < columns; ++j) {
                    terms += Loss::cost(y[j], logs[i], own[j]);
                    out[j] = factor * (out[j] * share - y[j]);
                }
                cost += weight * terms;
            }
        }
        return cost;
    }

    __attribute__((flatten)) T row(const T* z, const T* y, T* delta, int64_t columns, T scale) const {
        T cost = T(NAN);  // of a loss that does not go with the activation
        with_loss(int(p.loss), int(p.activations[p.layers - 1]), [&](auto loss, auto g) {
            const auto z_at = [z](int64_t j) { return z[j]; };
            cost = loss_row<decltype(loss), decltype(g)>(int64_t(0), int64_t(1), columns, z_at, y, delta, scale);
        });
        return cost;
    }

    // -- the update: units `from` to `to` of layer l -------------------------------------------------------------

    void update(const Step& step, int64_t l, int64_t from, int64_t to, int64_t part) {
        if (from == to) return;
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
                move(step, w, gradient, n, true);
            }
        }
        sum_rows(delta, m, to - from, s_out, gradient);
        move(step, b_[l] + from, gradient, to - from, false);
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
                        move(step, own, of_unit, columns, true);
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

    // theta, some entries of the flat vector, by their gradient; the state of the optimizer lies as the vector does.
    void move(const Step& step, T* theta, const T* gradient, int64_t n, bool decayed) {
        const T keep = decayed ? T(1 - step.decay) : T(1);
        with_optimizer(int(p.optimizer), [&](auto rule) { move_by<decltype(rule)>(step, theta, gradient, n, keep); });
    }

    template <class Rule> void move_by(const Step& step, T* theta, const T* gradient, int64_t n, T keep) {
        const optimizer::Constants<T> of = constants_;
        const T rate = T(step.rate);
        const int64_t offset = theta - static_cast<T*>(p.parameters);
        T *first = static_cast<T*>(p.first) + offset, *second = static_cast<T*>(p.second) + offset;
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

// Several networks, each by one thread at a time: those of `plans` that `which`, (count,), names, the largest first.
// The scratch of the first plan has room for each of `threads` threads, `stride` entries apart.
extern "C" void run_members(const EpochPlan* plans, const int64_t* which, int64_t count, int64_t threads,
                            int64_t stride) {
    std::atomic<int64_t> next{0};
    threads::run(int(threads), [&](int thread) {
        for (int64_t i; (i = next.fetch_add(1)) < count;) {
            EpochPlan plan = plans[which[i]];
            if (plan.stop && *plan.stop) return;
            plan.threads = 1;
            plan.scratch = static_cast<DELTAPROP_REAL*>(plans[0].scratch) + thread * stride;
            Run<DELTAPROP_REAL>{plan}();
        }
    });
}
