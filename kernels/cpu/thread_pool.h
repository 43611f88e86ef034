// Threads that outlive a call, because a step of a small network takes less time than starting a thread on a core of
// its own. Between jobs they watch for the next one for a short while, then sleep.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace threads {

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#endif
}

// Waits until `ready()`, or until the time `until`. At first it spins; then it yields the core, which another process
// or the very thread that it waits for may need.
template <class Ready>
void wait_for(Ready ready, std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max()) {
    for (int spins = 0; !ready(); ++spins) {
        if (spins < 2000) {
            pause();
            continue;
        }
        if (std::chrono::steady_clock::now() > until) return;
        std::this_thread::yield();
    }
}

// Work in phases of so many parts each; a phase begins when every part of the one before is done. A thread takes the
// part of its own number first, whose data lie in its cache, and then any part that nobody has begun: so a thread that
// loses its core holds up the others by one part only. The result of a part does not depend on which thread takes it,
// nor on how many threads there are.
class Phases {
public:
    Phases(int64_t phases, int parts) : phases_(phases), parts_(parts), begun_(parts) {
        for (auto& phase : begun_) phase.store(0, std::memory_order_relaxed);
    }

    // Calls do_part(phase, part, thread) until no part is left. A thread that comes when none is left does not even
    // copy do_part, as its caller, on whose stack it stands, may have returned.
    template <class Part> void work(int thread, Part& do_part) {
        int64_t phase = 0;
        int part = 0;
        for (;;) {
            wait_for([&] { return take(thread, phase, part); });
            if (phase >= phases_) return;
            do_part(phase, part, thread);
            done_.fetch_add(1, std::memory_order_acq_rel);
        }
    }

private:
    const int64_t phases_;
    const int parts_;
    std::vector<std::atomic<int64_t>> begun_;  // for each part, the number of phases in which it was begun
    alignas(64) std::atomic<int64_t> done_{0};

    // Whether a part can be taken now, or all are done.
    bool take(int thread, int64_t& phase, int& part) {
        phase = done_.load(std::memory_order_acquire) / parts_;
        if (phase >= phases_) return true;
        for (int i = 0; i < parts_; ++i) {
            part = (thread + i) % parts_;
            int64_t before = phase;
            if (begun_[part].load(std::memory_order_relaxed) == phase &&
                begun_[part].compare_exchange_strong(before, phase + 1, std::memory_order_acq_rel))
                return true;
        }
        return false;
    }
};

typedef std::function<void(int)> Job;

class Pool {
public:
    // Runs job(0) on this thread and job(1) ... job(parties - 1) on others, if they start before job(0) ends. Each does
    // whatever is left to do, so if no thread can be started, job(0) does all. It returns with job(0): a thread that
    // has lost its core may still be inside, or begin, when there is nothing left to do.
    void run(int parties, std::shared_ptr<const Job> job) {
        try {
            for (; workers_ < parties - 1; ++workers_)
                std::thread(&Pool::work, this, workers_ + 1, ticket_.load()).detach();
        } catch (const std::system_error&) {
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = job;
            parties_ = parties;
            ticket_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        (*job)(0);
        std::lock_guard<std::mutex> lock(mutex_);
        job_ = nullptr;
    }

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> ticket_{0};
    std::shared_ptr<const Job> job_;
    int parties_ = 1, workers_ = 0;

    void work(int number, unsigned seen) {
        const auto called = [&] { return ticket_.load(std::memory_order_acquire) != seen; };
        for (;;) {
            wait_for(called, std::chrono::steady_clock::now() + std::chrono::microseconds(300));
            std::shared_ptr<const Job> job;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, called);
                seen = ticket_.load(std::memory_order_acquire);
                if (number < parties_) job = job_;
            }
            if (job) (*job)(number);
        }
    }
};

// The pools that are idle. The child of a fork has none of its parent's threads, and one of these may hold the lock: so
// the child starts with new pools and a new lock.
struct Idle {
    std::mutex mutex;
    std::vector<Pool*> pools;
};
inline std::atomic<Idle*> idle_pools{nullptr};

inline Idle& idle() {
    Idle* there = idle_pools.load(std::memory_order_acquire);
    if (there) return *there;
    Idle* made = new Idle;
    if (idle_pools.compare_exchange_strong(there, made, std::memory_order_acq_rel)) return *made;
    delete made;
    return *there;
}

#if defined(__unix__) || defined(__APPLE__)
inline void forget_pools() { idle_pools.store(nullptr, std::memory_order_release); }
inline const int forgotten_by_children = pthread_atfork(nullptr, nullptr, forget_pools);
#endif

// Runs job(0) here and job(1) ... job(parties - 1) on other threads, see `Pool::run`. A pool serves one caller at a
// time; a caller that finds no idle pool makes one. No pool is destroyed, as threads wait in it when the process ends.
inline void run(int parties, std::shared_ptr<const Job> job) {
    Idle& shared = idle();
    Pool* pool = nullptr;
    {
        std::lock_guard<std::mutex> lock(shared.mutex);
        if (!shared.pools.empty()) pool = shared.pools.back(), shared.pools.pop_back();
    }
    if (!pool) pool = new Pool;
    pool->run(parties, job);
    std::lock_guard<std::mutex> lock(shared.mutex);
    shared.pools.push_back(pool);
}

// Calls do_part(phase, part, thread) for so many phases of so many parts, one phase after the other, by so many threads
// at most; see `Phases`.
template <class Part> void in_phases(int64_t phases, int parts, int threads, Part do_part) {
    // The caller returns once done_ has counted every part, and so sees what each has written. A thread that is late
    // has no part then and gets none, since take() looks at done_ first. It touches `all` and the job, which it owns
    // together with the others, but never do_part, which is the caller's.
    const auto all = std::make_shared<Phases>(phases, parts);
    if (threads == 1) return all->work(0, do_part);
    run(threads, std::make_shared<const Job>([all, &do_part](int thread) { all->work(thread, do_part); }));
}

}  // namespace threads
