// Whole epochs of a small network in one launch: parameters and optimizer state stay in the shared memory of one
// cluster of blocks from the first minibatch to the last. One cluster a member: K networks train side by side.
//
// A step on a cluster of C blocks, each of which owns a share of the units of every layer (their rows of W, their z and
// their delta); a barrier of the cluster stands where the arrows are:
//   forward, layer by layer   own z = W a + b, own a = g(z), written to every block                               ->
//   output                    every block: delta^(L) and, one of them, the cost
//   backward                  own rows' part of W^T delta^(l+1), each column written to the block that owns its unit ->
//                             the parts summed block by block in a fixed order, times g'(z): own delta^(l)
//   update                    own rows of W and b, from own delta and all of a                                    ->
// The rows of the next minibatch are copied to shared memory meanwhile. Sums have a fixed order: the same input gives
// the same bits.
//
// What lies where in shared memory, in reals, is decided by the caller (src/deltaprop/resident_epoch.py) and stands in
// the plan. Matrices lie row by row: W : (share, s_in) with rows `stride` apart; a : (batch, s_in) of the whole layer;
// z, delta : (batch, share); parts : (C, batch, share).
#include "activation.cuh"
#include "cluster.cuh"
#include "loss.cuh"
#include "real.cuh"
#include "warp.cuh"

typedef long long integer;

struct Layer {
    integer s_in, s_out;
    integer activation;          // by its place in DELTAPROP_FOR_EACH_ACTIVATION; softmax is -1
    integer share, stride;       // units a block owns at most; entries between rows of W
    integer W, b;                // places in shared memory; a moment of W lies `state` (or twice that) after it
    integer A, Z, delta, parts;  // a^(l), this layer's input (not of the first layer); z, delta, parts of its output
    integer first_weight, first_bias;  // places in the flat vector
};

struct Plan {
    integer layers, members, n;
    Layer layer[8];
    integer loss;
    integer samples, batch, steps, epochs;     // steps an epoch
    real *parameters, *first, *second;         // (members, n); the moments, or null
    const real *x, *y;                         // (samples, s_1), (samples, s_L)
    const real* weights;                       // (epochs, samples) in the order of the epochs, or null
    const integer* order;                      // (members or 1, epochs, samples), or null
    integer order_stride;                      // entries from one member's order to the next, 0 where they share it
    const real* terms;                         // (members or 1, epochs, steps, 5), see Terms
    integer terms_stride;
    integer optimizer;                         // by its place in enum Optimizer
    double momentum, beta_1, beta_2, epsilon;
    double *cost, *decay;                      // (members, epochs)
    double* squares;                           // (members, epochs): sum W^2 at the end of each
    integer* diverged;                         // (members,): the epoch, from 1, in which a number was no longer finite
    integer keep_last_good;                    // then leave `parameters` as they were before that epoch
    integer memory;                            // bytes of the plan itself in shared memory, rounded up
    integer state, X, Y, rows, sums;           // places in shared memory; of X, Y and rows there are two each
    integer x_bytes, y_bytes;                  // bytes a copy
};

enum Loss { squared_error, huber, absolute_error, binary, clipped_binary, categorical, clipped_categorical, poisson };
enum Optimizer { sgd, momentum, nesterov, adam };

// What differs from step to step: the factor of delta^(L), of W in its gradient, of sum W^2; eta, with Adam's bias
// correction; what is taken off the weights by AdamW.
struct Terms {
    real scale, penalty, decay, rate, weight_decay;
};

__device__ inline real value(integer activation, real z) {
    int place = 0;
#define DO(NAME, G) \
    if (activation == place++) return G::value(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return z;
}

__device__ inline real gradient(integer activation, real z) {
    int place = 0;
#define DO(NAME, G) \
    if (activation == place++) return G::gradient(z);
    DELTAPROP_FOR_EACH_ACTIVATION(DO)
#undef DO
    return real(1);
}

// One row of the output: delta takes the place of z; the cost of the entries of this lane is returned.
template <class Cost, class G> __device__ real loss_row(real* z, const real* y, int columns, real scale) {
    real cost = 0;
    for (int j = threadIdx.x % 32; j < columns; j += 32) {
        const real zj = z[j], a = G::value(zj);
        cost += Cost::template cost<G>(zj, a, y[j]);
        z[j] = scale * Cost::template delta<G>(zj, a, y[j]);
    }
    return cost;
}

__device__ inline real softmax_row(bool clipped, real* z, const real* y, int columns, real scale) {
    const int lane = threadIdx.x % 32;
    real top = minus_infinity();
    for (int j = lane; j < columns; j += 32) top = (z[j] > top || z[j] != z[j]) ? z[j] : top;
    top = warp_max(top);
    real others = 0, tops = 0;  // as in output_delta.cu
    for (int j = lane; j < columns; j += 32) {
        const real below = z[j] - top;
        if (below == real(0)) tops += real(1);
        else others += exp(below);
    }
    warp_sums(others, tops);
    const real sum = others + tops, log_sum = log1p(others + (tops - real(1)));
    real cost = 0;
    for (int j = lane; j < columns; j += 32) {
        const real zj = z[j], term = y[j] * (log_sum - (zj - top));
        cost += clipped ? loss::clip_cost(term) : term;
        z[j] = scale * (exp(zj - top) / sum - y[j]);
    }
    return cost;
}

struct places {  // of the names that DELTAPROP_FOR_EACH_LOSS gives to losses and activations
    enum { squared_error = ::squared_error, huber = ::huber, absolute_error = ::absolute_error,
           binary_cross_entropy = ::binary, clipped_binary_cross_entropy = ::clipped_binary, poisson = ::poisson };
    enum { sigmoid, tanh, relu, leaky_relu, identity, softplus, silu, gelu, exp };
};

__device__ inline real output_row(integer chosen, integer activation, real* z, const real* y, int columns, real scale) {
    if (chosen == categorical || chosen == clipped_categorical)
        return softmax_row(chosen == clipped_categorical, z, y, columns, scale);
#define DELTAPROP_DO(LOSS, NAME, G) \
    if (chosen == places::LOSS && activation == places::NAME) return loss_row<loss::LOSS, G>(z, y, columns, scale);
    DELTAPROP_FOR_EACH_LOSS
#undef DELTAPROP_DO
    return real(0);
}

template <int BLOCKS> class Resident {
public:
    __device__ Resident(const Plan* plan, unsigned char* memory)
        : p(*reinterpret_cast<const Plan*>(memory)), thread(threadIdx.x), threads(blockDim.x),
          rank(cluster_rank<BLOCKS>()), member(blockIdx.x / BLOCKS) {
        const integer* from = reinterpret_cast<const integer*>(plan);
        integer* to = reinterpret_cast<integer*>(memory);
        for (int i = thread; i < int(sizeof(Plan) / sizeof(integer)); i += threads) to[i] = from[i];
        __syncthreads();
        at = reinterpret_cast<real*>(memory + p.memory);
        total_steps = p.epochs * p.steps;
        order = p.order ? p.order + member * p.order_stride : nullptr;
        terms = reinterpret_cast<const Terms*>(p.terms + member * p.terms_stride);
        states = p.optimizer == sgd ? 0 : p.optimizer == adam ? 2 : 1;
    }

    __device__ void operator()() {
        load();
        fetch_order(0);
        copies_done();
        __syncthreads();
        fetch(0);
        fetch_order(1);
        Terms next = terms[0];
        cluster_sync<BLOCKS>();  // every block of the cluster has begun, and may be written to
        for (integer step = 0; step < total_steps; ++step) {
            copies_done();
            __syncthreads();
            const Terms now = next;
            if (step + 1 < total_steps) next = terms[step + 1];
            fetch(step + 1);
            fetch_order(step + 2);
            const int m = rows_of(step);
            forward(step, m);
            output(step, m, now.scale);
            backward(m);
            for (integer l = 0; l < p.layers; ++l) update(l, step, m, now);
            cluster_sync<BLOCKS>();
            if ((step + 1) % p.steps == 0 && end_epoch(step / p.steps)) break;
        }
        cluster_sync<BLOCKS>();  // no block ends while another may still write to it
    }

private:
    const Plan& p;
    const int thread, threads, rank;
    const integer member;
    real* at;
    integer total_steps;
    const integer* order;
    const Terms* terms;
    int states;
    double cost = 0, decay = 0;

    __device__ int first_of(const Layer& layer) const { return rank * int(layer.share); }
    __device__ int own(const Layer& layer) const {
        const int left = int(layer.s_out) - first_of(layer);
        return left < 0 ? 0 : left < layer.share ? left : int(layer.share);
    }
    __device__ int rows_of(integer step) const {
        const integer left = p.samples - step % p.steps * p.batch;
        return int(left < p.batch ? left : p.batch);
    }

    // -- parameters between the device's memory and the cluster's -----------------------------------------------

    template <class F> __device__ void for_each_parameter(F f) {  // f(place in shared memory, place in a flat vector)
        for (integer l = 0; l < p.layers; ++l) {
            const Layer& layer = p.layer[l];
            const int s_in = int(layer.s_in), first = first_of(layer), units = own(layer);
            for (int i = thread; i < units * s_in; i += threads) {
                const int unit = i / s_in, k = i - unit * s_in;
                f(layer.W + unit * layer.stride + k, layer.first_weight + integer(first) * s_in + i);
            }
            for (int i = thread; i < units; i += threads) f(layer.b + i, layer.first_bias + first + i);
        }
    }

    __device__ void load() {
        const integer offset = member * p.n;
        for_each_parameter([&](integer here, integer there) {
            at[here] = p.parameters[offset + there];
            if (states > 0) at[here + p.state] = p.first[offset + there];
            if (states > 1) at[here + 2 * p.state] = p.second[offset + there];
        });
    }

    __device__ void save() {
        const integer offset = member * p.n;
        for_each_parameter([&](integer here, integer there) {
            p.parameters[offset + there] = at[here];
            if (states > 0) p.first[offset + there] = at[here + p.state];
            if (states > 1) p.second[offset + there] = at[here + 2 * p.state];
        });
    }

    // -- minibatches --------------------------------------------------------------------------------------------

    __device__ integer* rows_at(integer step) const {
        return reinterpret_cast<integer*>(at + p.rows) + (step & 1) * p.batch;
    }
    __device__ real* x_at(integer step) const { return at + p.X + (step & 1) * p.batch * p.layer[0].s_in; }
    __device__ real* y_at(integer step) const {
        return at + p.Y + (step & 1) * p.batch * p.layer[p.layers - 1].s_out;
    }

    __device__ void fetch_order(integer step) {
        if (!order || step >= total_steps) return;
        const integer* from = order + step / p.steps * p.samples + step % p.steps * p.batch;
        for (int i = thread; i < rows_of(step); i += threads) copy_async(rows_at(step) + i, from + i, 8);
    }

    __device__ void fetch(integer step) {
        if (step >= total_steps) return;
        fetch_rows(step, p.x, x_at(step), int(p.layer[0].s_in), int(p.x_bytes));
        fetch_rows(step, p.y, y_at(step), int(p.layer[p.layers - 1].s_out), int(p.y_bytes));
    }

    __device__ void fetch_rows(integer step, const real* from, real* to, int columns, int bytes) {
        const int at_once = bytes / int(sizeof(real)), pieces = columns / at_once;
        const integer first = step % p.steps * p.batch;
        for (int i = thread; i < rows_of(step) * pieces; i += threads) {
            const int row = i / pieces, column = (i - row * pieces) * at_once;
            const integer source = order ? rows_at(step)[row] : first + row;
            copy_async(to + row * columns + column, from + source * columns + column, bytes);
        }
    }

    // -- forward ------------------------------------------------------------------------------------------------

    __device__ const real* input_of(integer l, integer step) const {
        return l == 0 ? x_at(step) : at + p.layer[l].A;
    }

    __device__ void forward(integer step, int m) {
        for (integer l = 0; l < p.layers; ++l) {
            affine(l, input_of(l, step), m);
            cluster_sync<BLOCKS>();
        }
    }

    // Own z = W a + b. A group of `lanes` threads splits the sum over inputs for two rows and two units; the fewer
    // tiles there are, the more lanes each gets.
    __device__ void affine(integer l, const real* a, int m) {
        const Layer& layer = p.layer[l];
        const int s_in = int(layer.s_in), units = own(layer);
        const int unit_tiles = (units + 1) / 2, row_tiles = (m + 1) / 2, tiles = unit_tiles * row_tiles;
        int lanes = 1;
        while (lanes < 32 && tiles * lanes * 2 <= threads) lanes *= 2;
        const int groups = threads / lanes, lane = thread % lanes;
        const real* W = at + layer.W;
        for (int base = 0; base < tiles; base += groups) {  // the same for all threads: shuffles are in here
            const int tile = base + thread / lanes;
            const bool there = tile < tiles;
            // Neighbours take neighbouring units, so that rows of W of odd stride fall into different banks.
            const int unit = there ? tile % unit_tiles : 0, row = there ? tile / unit_tiles : 0;
            const int other_unit = unit + unit_tiles < units ? unit + unit_tiles : unit;
            const int other_row = row + row_tiles < m ? row + row_tiles : row;
            real s00 = 0, s01 = 0, s10 = 0, s11 = 0;
            if (there) {
                const real *w0 = W + unit * layer.stride, *w1 = W + other_unit * layer.stride;
                const real *a0 = a + row * s_in, *a1 = a + other_row * s_in;
                for (int k = lane; k < s_in; k += lanes) {
                    s00 += a0[k] * w0[k], s01 += a0[k] * w1[k];
                    s10 += a1[k] * w0[k], s11 += a1[k] * w1[k];
                }
            }
            for (int distance = lanes / 2; distance > 0; distance /= 2) {
                s00 += __shfl_xor_sync(0xffffffffu, s00, distance), s01 += __shfl_xor_sync(0xffffffffu, s01, distance);
                s10 += __shfl_xor_sync(0xffffffffu, s10, distance), s11 += __shfl_xor_sync(0xffffffffu, s11, distance);
            }
            if (!there) continue;
            for (int i = lane; i < 4; i += lanes) {
                const bool second_unit = i % 2 == 1, second_row = i / 2 == 1;
                if ((second_unit && other_unit == unit) || (second_row && other_row == row)) continue;
                const real sum = second_row ? (second_unit ? s11 : s10) : second_unit ? s01 : s00;
                finish_unit(l, second_row ? other_row : row, second_unit ? other_unit : unit, sum);
            }
        }
    }

    // z of an own unit, and g(z) to every block; of the output layer z itself, for a softmax needs them all.
    __device__ void finish_unit(integer l, int row, int unit, real sum) {
        const Layer& layer = p.layer[l];
        const real z = sum + at[layer.b + unit];
        const int column = first_of(layer) + unit;
        real *to, sent = z;
        if (l == p.layers - 1) {
            to = at + layer.Z + row * layer.s_out + column;
        } else {
            at[layer.Z + row * layer.share + unit] = z;
            sent = value(layer.activation, z);
            to = at + p.layer[l + 1].A + row * layer.s_out + column;
        }
        for (int block = 0; block < BLOCKS; ++block) *of_block<BLOCKS>(to, block) = sent;
    }

    // -- cost and backward --------------------------------------------------------------------------------------

    __device__ void output(integer step, int m, real scale) {
        const Layer& last = p.layer[p.layers - 1];
        const int columns = int(last.s_out);
        const real* weights = p.weights ? p.weights + step / p.steps * p.samples + step % p.steps * p.batch : nullptr;
        for (int row = thread / 32; row < m; row += threads / 32) {
            const real weight = weights ? weights[row] : real(1);
            const real of_row = warp_sum(output_row(p.loss, last.activation, at + last.Z + row * columns,
                                                    y_at(step) + row * columns, columns, weight * scale));
            if (rank == 0 && thread % 32 == 0) cost += double(weight * of_row);
        }
        __syncthreads();
    }

    __device__ const real* own_delta(integer l, int& stride) const {
        const Layer& layer = p.layer[l];
        const bool last = l == p.layers - 1;
        stride = int(last ? layer.s_out : layer.share);
        return at + (last ? layer.Z + first_of(layer) : layer.delta);
    }

    __device__ void backward(int m) {
        for (integer l = p.layers - 1; l > 0; --l) {
            const Layer &layer = p.layer[l], &below = p.layer[l - 1];
            const int s_in = int(layer.s_in), units = own(layer), share = int(below.share);
            int stride;
            const real *delta = own_delta(l, stride), *W = at + layer.W;
            for (int i = thread; i < m * s_in; i += threads) {
                const int row = i / s_in, k = i - row * s_in, owner = k / share;
                real sum = 0;
                for (int unit = 0; unit < units; ++unit) sum += delta[row * stride + unit] * W[unit * layer.stride + k];
                real* to = at + below.parts + (rank * p.batch + row) * share + (k - owner * share);
                *of_block<BLOCKS>(to, owner) = sum;
            }
            cluster_sync<BLOCKS>();
            for (int i = thread; i < m * share; i += threads) {
                const int row = i / share, unit = i - row * share;
                if (unit >= own(below)) continue;
                real sum = 0;
                for (int block = 0; block < BLOCKS; ++block) sum += at[below.parts + (block * p.batch + row) * share + unit];
                at[below.delta + i] = sum * gradient(below.activation, at[below.Z + i]);
            }
            __syncthreads();
        }
    }

    // -- update -------------------------------------------------------------------------------------------------

    __device__ void update(integer l, integer step, int m, const Terms& now) {
        const Layer& layer = p.layer[l];
        const int s_in = int(layer.s_in), units = own(layer), at_once = 4, groups = (units + at_once - 1) / at_once;
        int stride;
        const real *delta = own_delta(l, stride), *a = input_of(l, step);
        real squares = 0;
        for (int i = thread; i < groups * s_in; i += threads) {
            const int group = i / s_in, k = i - group * s_in, unit = group * at_once;
            const int last = units - 1 - unit;
            const int u1 = 1 < last ? 1 : last, u2 = 2 < last ? 2 : last, u3 = 3 < last ? 3 : last;
            real g0 = 0, g1 = 0, g2 = 0, g3 = 0;
            for (int row = 0; row < m; ++row) {
                const real ak = a[row * s_in + k], *d = delta + row * stride + unit;
                g0 += d[0] * ak, g1 += d[u1] * ak, g2 += d[u2] * ak, g3 += d[u3] * ak;
            }
            const integer w = layer.W + unit * layer.stride + k;
            weight(w, g0, squares, now);
            if (last >= 1) weight(w + layer.stride, g1, squares, now);
            if (last >= 2) weight(w + 2 * layer.stride, g2, squares, now);
            if (last >= 3) weight(w + 3 * layer.stride, g3, squares, now);
        }
        if (now.decay != real(0)) decay += double(now.decay * squares);
        for (int unit = thread / 32; unit < units; unit += threads / 32) {
            real sum = 0;
            for (int row = thread % 32; row < m; row += 32) sum += delta[row * stride + unit];
            sum = warp_sum(sum);
            if (thread % 32 == 0) move(layer.b + unit, sum, now, real(0));
        }
    }

    __device__ void weight(integer place, real g, real& squares, const Terms& now) {
        const real w = at[place];
        squares += w * w;
        move(place, g + now.penalty * w, now, now.weight_decay);
    }

    // theta by its gradient; see sgd.cu and adam.cu.
    __device__ void move(integer place, real g, const Terms& now, real weight_decay) {
        const real theta = at[place];
        if (p.optimizer == sgd) {
            at[place] = theta - now.rate * g;
        } else if (p.optimizer == adam) {
            const real beta_1 = real(p.beta_1), beta_2 = real(p.beta_2);
            real &first = at[place + p.state], &second = at[place + 2 * p.state];
            first = beta_1 * first + (real(1) - beta_1) * g;
            second = beta_2 * second + (real(1) - beta_2) * (g * g);
            at[place] = theta - weight_decay * theta - now.rate * first / (sqrt(second) + real(p.epsilon));
        } else {
            const real mu = real(p.momentum), step = now.rate * g;
            real& velocity = at[place + p.state];
            velocity = mu * velocity - step;
            at[place] = theta + (p.optimizer == nesterov ? mu * velocity - step : velocity);
        }
    }

    // -- epochs -------------------------------------------------------------------------------------------------

    // Σ over the threads of this block, in a fixed order, for all of them.
    __device__ double block_sum(double x) {
        double* sums = reinterpret_cast<double*>(at + p.sums) + BLOCKS * 3;
        __syncthreads();
        sums[thread] = x;
        __syncthreads();
        for (int half = threads / 2; half > 0; half /= 2) {
            if (thread < half) sums[thread] += sums[thread + half];
            __syncthreads();
        }
        return sums[0];
    }

    // The epoch's cost and penalties to the caller, and parameters if they are to be kept; whether training ends here.
    __device__ bool end_epoch(integer epoch) {
        double bad = 0, squares = 0;
        const integer weights = p.layer[0].first_bias;  // stand in front of all biases
        for_each_parameter([&](integer here, integer there) {
            bad += at[here] - at[here] == real(0) ? 0.0 : 1.0;
            if (there < weights) squares += double(at[here]) * double(at[here]);
        });
        const double of_cost = block_sum(cost), of_decay = block_sum(decay);
        bad = block_sum(bad) + (of_cost - of_cost == 0.0 ? 0.0 : 1.0);
        squares = block_sum(squares);
        double* shared = reinterpret_cast<double*>(at + p.sums);  // (BLOCKS, 3): what each block has found
        if (thread < BLOCKS) {
            double* to = of_block<BLOCKS>(shared + 3 * rank, thread);
            to[0] = of_decay, to[1] = bad, to[2] = squares;
        }
        cluster_sync<BLOCKS>();
        double all_decay = 0, all_bad = 0, all_squares = 0;
        for (int block = 0; block < BLOCKS; ++block)
            all_decay += shared[3 * block], all_bad += shared[3 * block + 1], all_squares += shared[3 * block + 2];
        if (rank == 0 && thread == 0) {
            p.cost[member * p.epochs + epoch] += of_cost;
            p.decay[member * p.epochs + epoch] += all_decay;
            p.squares[member * p.epochs + epoch] = all_squares;
            if (all_bad != 0) p.diverged[member] = epoch + 1;
        }
        cost = decay = 0;
        const bool ends = all_bad != 0 && p.keep_last_good;
        if (!ends) save();
        cluster_sync<BLOCKS>();
        return ends;
    }
};

#define DEFINE(BLOCKS)                                                                \
    extern "C" __global__ CLUSTER_OF(BLOCKS) void resident_##BLOCKS(const Plan* plan) { \
        DELTAPROP_DYNAMIC_SHARED(memory);                                             \
        Resident<BLOCKS> run(plan, memory);                                           \
        run();                                                                        \
    }
#define CLUSTER_OF(BLOCKS) __launch_bounds__(512, 1)
DEFINE(1)
#if DELTAPROP_HAS_CLUSTERS
#undef CLUSTER_OF
#define CLUSTER_OF(BLOCKS) __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(512, 1)
DEFINE(2)
DEFINE(4)
DEFINE(8)
#endif
