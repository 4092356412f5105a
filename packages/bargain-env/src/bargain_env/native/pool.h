// A fixed set of threads that share the rows of a batch in equal contiguous parts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace bargain {

#ifdef _WIN32
inline long process_id() { return 0; }  // a process cannot fork
#else
inline long process_id() { return getpid(); }
#endif

// Threads look for work this long (about a tenth of a millisecond) before they sleep: a step of a few thousand games is
// shorter than what it takes to wake a sleeping thread.
constexpr int SPINS = 60000;

// Fewer rows than this are played sooner than another thread takes them up.
constexpr long long FEWEST_ROWS = 256;

class Pool {
  public:
    explicit Pool(int threads) : threads_(threads) {
        if (threads < 1) throw std::invalid_argument("threads must be at least 1");
        try {
            for (int part = 1; part < threads; ++part) workers_.emplace_back([this, part] { work(part); });
        } catch (const std::system_error&) {
            stop();
            throw std::runtime_error("the system does not start " + std::to_string(threads) + " threads; use fewer.");
        }
    }

    ~Pool() { stop(); }

    // Deletes a pool, except in a forked process, where its threads do not exist and could be waited for for ever.
    struct Delete {
        void operator()(Pool* pool) const {
            if (pool->process_ == process_id()) delete pool;
        }
    };

    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Calls body(first, last) for every part of 0 .. size - 1; returns when all are done. The caller does part 0, and
    // everything where that is little or, in a forked process, where there are no other threads.
    template <typename F>
    void run(long long size, F&& body) {
        if (threads_ == 1 || size < 2 * FEWEST_ROWS || process_ != process_id()) {
            body(0, size);
            return;
        }
        size_ = size;
        body_ = [&body](long long first, long long last) { body(first, last); };
        pending_ = threads_ - 1;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ++generation_;  // publishes the lines above to the workers
        }
        wake_.notify_all();
        body(0, part_start(1));
        if (spin([this] { return pending_ == 0; })) return;
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return pending_ == 0; });
    }

  private:
    void stop() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    long long part_start(int part) const { return size_ * part / threads_; }

    template <typename P>
    static bool spin(P&& ready) {
        for (int k = 0; k < SPINS; ++k) {
            if (ready()) return true;
        }
        return false;
    }

    void work(int part) {
        unsigned long long seen = 0;
        const auto called = [this, &seen] { return stop_ || generation_ != seen; };
        for (;;) {
            if (!spin(called)) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, called);
            }
            if (stop_) return;
            seen = generation_;
            body_(part_start(part), part_start(part + 1));
            if (--pending_ == 0) {
                std::lock_guard<std::mutex> lock(mutex_);  // the caller is either before its test or asleep
                done_.notify_one();
            }
        }
    }

    const int threads_;
    const long process_ = process_id();
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::function<void(long long, long long)> body_;
    long long size_ = 0;
    std::atomic<unsigned long long> generation_{0};
    std::atomic<int> pending_{0};
    std::atomic<bool> stop_{false};
};

}  // namespace bargain
