// Costs, outputs and largest outputs of a network over dense rows, by one thread or several.
//
// The rows fall into blocks whose z and a stay in the second-level cache. The weights of a layer are rearranged once
// a call, panel by panel as wide as a register tile; then each block goes through all layers. Panels and blocks are
// taken by whichever thread is free. All blocks have the same number of rows, and their costs are added in order: so
// the results do not depend on the threads, nor on the parts in which many rows come. Where there are only a few
// rows, nothing is rearranged.
#pragma once
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"
#include "cpu/dot_product.h"
#include "cpu/evaluation_plan.h"
#include "cpu/hidden_layer.h"
#include "cpu/output_layer.h"
#include "cpu/panels.h"
#include "cpu/thread_pool.h"
#include "cpu/transposed.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace dense_evaluation {

// Rows of a block: whole tiles of them, and few enough that the inputs, z and a of a wide layer stay in the second-
// level cache. It is one number, so that rows that are evaluated part by part fall into the same blocks; Python
// knows it.
const int64_t ROWS = 48;
// Floating-point operations for which one more thread pays.
const double OPERATIONS_A_THREAD = 2e6;
// Rows up to which nothing is rearranged: for a layer whose weights fit the first-level cache, and for others.
const int64_t FEW_ROWS = 4, FEW_ROWS_OF_LARGE = 16, SMALL_WEIGHTS = 12800;
// Bytes of scratch that a thread keeps for its next call.
const size_t KEPT = 4 << 20;

// Memory of one thread that calls the library, kept from call to call.
class Scratch {
public:
    ~Scratch() { std::free(memory_); }
    // Null if there is not so much.
    void* room(size_t bytes) {
        if (bytes <= bytes_) return memory_;
        std::free(memory_);
        bytes_ = (bytes + 63) / 64 * 64;
        memory_ = std::aligned_alloc(64, bytes_);
        if (!memory_) bytes_ = 0;
        return memory_;
    }
    void give_back() {
        if (bytes_ <= KEPT) return;
        std::free(memory_);
        memory_ = nullptr, bytes_ = 0;
    }

private:
    void* memory_ = nullptr;
    size_t bytes_ = 0;
};
inline thread_local Scratch scratch;

// What is evaluated and where the results go: each of y, weights, outputs, largest and cost may be null.
template <typename T> struct Call {
    const T* x;  // (rows, sizes[0])
    int64_t rows;
    const T *y, *weights;  // (rows, sizes[layers]) and (rows,)
    T* outputs;            // (rows, sizes[layers])
    int64_t* largest;      // (rows,), the column of the largest output
    double* cost;          // the sum over the rows is added to it, with y only
    int64_t threads;       // at most
    int64_t of_rows;       // how many rows there are in all parts
};

template <typename T> class Evaluation {
public:
    Evaluation(const EvaluationPlan& plan, const Call<T>& call) : p(plan), c(call) {
        columns_ = p.sizes[p.layers];
        int64_t tasks = 0, entries = 0;
        for (int64_t l = 0; l < p.layers; ++l) {
            const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
            widest_ = std::max(widest_, s_out);
            n_weights_ += s_in * s_out;
            if (is_rearranged(l)) tasks += panels_of(l), entries += s_in * s_out;
        }
        panels_ = tasks;
        const double operations = 2.0 * double(n_weights_) * double(c.rows);
        rows_ = std::min(ROWS, c.rows);
        blocks_ = (c.rows + rows_ - 1) / rows_;
        threads_ = std::max<int64_t>(
            1, std::min({c.threads, blocks_, int64_t(std::min(operations / OPERATIONS_A_THREAD, 1e6))}));
        own_entries_ = padded(rows_ * widest_) * 2 + padded(rows_ * columns_) * 2;
        packed_entries_ = padded(entries);
    }

    // 1 if all inputs are finite, 0 if not, -1 if there is not enough memory.
    int64_t operator()() {
        const size_t of_costs = size_t(padded(blocks_)) * sizeof(double);
        const size_t entries = size_t(packed_entries_ + threads_ * own_entries_);
        char* memory = static_cast<char*>(scratch.room(of_costs + entries * sizeof(T)));
        if (!memory) return -1;
        costs_ = reinterpret_cast<double*>(memory);
        packed_ = reinterpret_cast<T*>(memory + of_costs);
        own_ = packed_ + packed_entries_;
        if (threads_ == 1) work(0);
        else threads::in_phases(1, int(threads_), int(threads_), [this](int64_t, int part, int) { work(part); });
        for (int64_t i = 0; c.cost && c.y && i < blocks_; ++i) *c.cost += costs_[i];
        scratch.give_back();
        return finite_.load(std::memory_order_relaxed);
    }

private:
    const EvaluationPlan& p;
    const Call<T>& c;
    int64_t columns_ = 0, widest_ = 0, n_weights_ = 0;
    int64_t panels_, rows_, blocks_, threads_, own_entries_, packed_entries_;
    double* costs_ = nullptr;  // of each block
    T *packed_ = nullptr, *own_ = nullptr;
    std::atomic<int64_t> next_{0}, done_{0};
    std::atomic<int> finite_{1};

    static constexpr int64_t width() { return panels::width<T>(); }
    static int64_t padded(int64_t entries) { return (entries + 15) / 16 * 16; }
    int64_t weights_of(int64_t l) const { return p.sizes[l] * p.sizes[l + 1]; }
    int64_t panels_of(int64_t l) const { return (p.sizes[l + 1] + width() - 1) / width(); }
    bool is_rearranged(int64_t l) const {
        return c.of_rows > (weights_of(l) <= SMALL_WEIGHTS ? FEW_ROWS : FEW_ROWS_OF_LARGE);
    }

    // Panels first, then blocks, until none is left.
    void work(int64_t part) {
        for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < panels_ + blocks_;) {
            if (task < panels_) {
                rearrange(task);
                done_.fetch_add(1, std::memory_order_release);
                continue;
            }
            threads::wait_for([&] { return done_.load(std::memory_order_acquire) == panels_; });
            block(task - panels_, own_ + part * own_entries_);
        }
    }

    // Copies a panel of a layer: some of its units, unit by unit side by side.
    void rearrange(int64_t panel) {
        const T* weights = static_cast<const T*>(p.parameters);
        T* to = packed_;
        int64_t l = 0;
        for (;; weights += weights_of(l), ++l) {
            if (!is_rearranged(l)) continue;
            if (panel < panels_of(l)) break;
            panel -= panels_of(l), to += weights_of(l);
        }
        const int64_t s_in = p.sizes[l], first = panel * width();
        const int64_t columns = std::min(width(), p.sizes[l + 1] - first);
        transpose(weights + first * s_in, s_in, columns, s_in, to + first * s_in, columns);
    }

    // Rows of the inputs through all layers, and what is asked of the outputs.
    void block(int64_t number, T* own) {
        const int64_t start = number * rows_, m = std::min(rows_, c.rows - start), last = p.layers - 1;
        T *z = own, *a = z + padded(rows_ * widest_), *delta = a + padded(rows_ * widest_);
        T* other = delta + padded(rows_ * columns_);
        const T *input = c.x + start * p.sizes[0], *weights = static_cast<const T*>(p.parameters);
        const T *biases = weights + n_weights_, *packed = packed_;
        if (!all_finite(input, m * p.sizes[0])) finite_.store(0, std::memory_order_relaxed);
        for (int64_t l = 0; l < p.layers; ++l) {
            affine(l, m, input, weights, packed, biases, z);
            if (l < last) hidden_layer::value(p.activations[l], z, a, m * p.sizes[l + 1]);
            input = a;
            weights += weights_of(l), biases += p.sizes[l + 1];
            if (is_rearranged(l)) packed += weights_of(l);
        }
        const output_layer::Rows<T> of{p.loss, p.activations[last], m, columns_, z, delta, other};
        if (c.y)
            costs_[number] = output_layer::cost_and_delta(
                of, [&](int64_t i) { return c.y + (start + i) * columns_; },
                [&](int64_t i) { return c.weights ? c.weights[start + i] : T(1); }, T(0));
        if (!c.outputs && !c.largest) return;
        T* out = c.outputs ? c.outputs + start * columns_ : delta;
        output_layer::outputs(of, out);
        for (int64_t i = 0; c.largest && i < m; ++i) c.largest[start + i] = largest(out + i * columns_);
    }

    // z := input W^T + b
    void affine(int64_t l, int64_t m, const T* input, const T* weights, const T* packed, const T* biases, T* z) const {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1];
        if (!is_rearranged(l))
            return dot_product::Product<T>{m, s_out, s_in, input, s_in, weights, s_in, biases, z, s_out}();
        const bool is_near = s_in * width() * int64_t(sizeof(T)) <= (24 << 10);  // in the first-level cache
        for (int64_t j = 0; j < s_out; j += width(), packed += s_in * width()) {
            const int64_t columns = std::min(width(), s_out - j);
            for (int64_t k = 0; k < s_in; k += panels::DEPTH) {
                const int64_t depth = std::min(panels::DEPTH, s_in - k);
                const T *from = packed + k * columns, *bias = k == 0 ? biases + j : nullptr;
                if (is_near) product<0>(m, columns, depth, input + k, s_in, from, k, bias, z + j, s_out);
                else product<panels::AHEAD>(m, columns, depth, input + k, s_in, from, k, bias, z + j, s_out);
            }
        }
    }

    template <int AHEAD>
    static void product(int64_t m, int64_t columns, int64_t depth, const T* a, int64_t a_stride, const T* b, int64_t k,
                        const T* bias, T* z, int64_t z_stride) {
        small_product::Product<T, AHEAD>{m,      columns, depth,     a,    a_stride, 1, b,
                                         columns, T(1),    T(k != 0), bias, z,        z_stride}();
    }

    // x - x is 0, or NaN where x is not finite.
    static bool all_finite(const T* x, int64_t n) {
        T sums[64] = {}, sum = 0;
        int64_t i = 0;
        for (; i + 64 <= n; i += 64)
            for (int j = 0; j < 64; ++j) sums[j] += x[i + j] - x[i + j];
        for (; i < n; ++i) sum += x[i] - x[i];
        for (int j = 0; j < 64; ++j) sum += sums[j];
        return sum == T(0);
    }

    // Of equal ones the first; a NaN counts as the largest, as it does for NumPy.
    int64_t largest(const T* a) const {
        int64_t best = 0;
        for (int64_t j = 0; j < columns_; ++j) {
            if (a[j] != a[j]) return j;
            if (a[j] > a[best]) best = j;
        }
        return best;
    }
};

}  // namespace dense_evaluation
