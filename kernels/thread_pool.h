// Threads that outlive a call: a step of a small network takes less time than a thread takes to start and to be moved
// to a core of its own. Between jobs they watch for the next one for a short while, then sleep.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
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

// Waits until `ready` says so: at first ready to go on at once, then giving the core to whoever wants it, for another
// process may have it, or the thread waited for may have been given the same one.
template <class Ready> void wait_for(Ready ready) {
    for (int spins = 0; !ready(); ++spins)
        if (spins < 2000) pause(); else std::this_thread::yield();
}

class Barrier {
public:
    explicit Barrier(int parties) : parties_(parties), waiting_(0), round_(0) {}
    void wait() {
        if (parties_ == 1) return;
        const unsigned round = round_.load(std::memory_order_acquire);
        if (waiting_.fetch_add(1, std::memory_order_acq_rel) == parties_ - 1) {
            waiting_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        wait_for([&] { return round_.load(std::memory_order_acquire) != round; });
    }

private:
    const int parties_;
    std::atomic<int> waiting_;
    std::atomic<unsigned> round_;
};

class Pool {
public:
    // job(0) on this thread and job(1) ... job(parties - 1) on others, all at once. False where these cannot be had;
    // then nothing has been run.
    bool run(int parties, const std::function<void(int)>& job) {
        try {
            for (; workers_ < parties - 1; ++workers_) std::thread(&Pool::work, this, workers_ + 1, ticket_.load()).detach();
        } catch (const std::system_error&) {
            return false;
        }
        job_ = &job;
        parties_ = parties;
        finished_.store(0, std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ticket_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        job(0);
        wait_for([&] { return finished_.load(std::memory_order_acquire) == workers_; });
        return true;
    }

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> ticket_{0};
    std::atomic<int> finished_{0};
    const std::function<void(int)>* job_ = nullptr;
    int parties_ = 1, workers_ = 0;

    void work(int number, unsigned seen) {
        for (;;) {
            const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
            while (ticket_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < until) pause();
            if (ticket_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return ticket_.load(std::memory_order_acquire) != seen; });
            }
            seen = ticket_.load(std::memory_order_acquire);
            if (number < parties_) (*job_)(number);
            finished_.fetch_add(1, std::memory_order_release);
        }
    }
};

// Runs job(0) ... job(parties - 1) at once. A pool serves one caller at a time; a caller who finds none idle, and the
// child of a fork, which has none of its parent's threads, make another. None is destroyed, for threads wait in it when
// the process ends.
inline bool run(int parties, const std::function<void(int)>& job) {
    if (parties == 1) {
        job(0);
        return true;
    }
    static std::mutex mutex;
    static std::vector<Pool*>& idle = *new std::vector<Pool*>;
    static long owner = 0;
#if defined(__unix__) || defined(__APPLE__)
    const long process = long(getpid());
#else
    const long process = 0;
#endif
    Pool* pool = nullptr;
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (owner != process) idle.clear(), owner = process;
        if (!idle.empty()) pool = idle.back(), idle.pop_back();
    }
    if (!pool) pool = new Pool;
    const bool ran = pool->run(parties, job);
    std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(pool);
    return ran;
}

}  // namespace threads
