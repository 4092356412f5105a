// The Python binding of the batched loops.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "batch.h"

namespace nb = nanobind;
using namespace bargain;

namespace {

constexpr i64 MAX_ROWS = 1ll << 40, MAX_OFFERS = 32765;

template <typename T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

// Sizes that do not follow from the quantities and rounds would let the loops leave their arrays.
void check_sizes(const Spec& spec) {
    i64 offers = 1;
    bool fits = true;
    for (int item = 0; item < spec.num_items && fits; ++item) {
        offers *= (i64)spec.quantities[item] + 1;
        fits = spec.quantities[item] >= 1 && offers <= MAX_OFFERS;
    }
    const i32 standing = 2 * spec.num_items + 6 + (i32)offers;
    const i32 history = spec.history ? (2 * spec.max_rounds - 1) * spec.num_items : 0;
    fits = fits && spec.num_offers == offers && spec.num_actions == offers + 2 && spec.max_turns == 2 * spec.max_rounds &&
           spec.standing_dim == standing && spec.observation_dim == standing + history && spec.min_value >= 1 &&
           spec.max_value >= spec.min_value;
    if (!fits) throw std::invalid_argument("the sizes of the spec contradict each other");
}

void check_steps(i64 steps, i64 num_envs) {
    if (steps < 0 || steps > MAX_ROWS / num_envs) throw std::invalid_argument("steps are out of range");
}

// Reads the members of a spec by the names that layout.py gives them.
Spec make_spec(nb::dict fields) {
    const auto integer = [&](const char* name) { return nb::cast<i32>(fields[name]); };
    const auto quantities = nb::cast<std::vector<i32>>(fields["quantities"]);
    const auto discount = nb::cast<std::vector<float>>(fields["discount"]);
    Spec spec{};
    spec.num_items = integer("num_items");
    spec.max_rounds = integer("max_rounds");
    if (spec.num_items < 1 || spec.num_items > MAX_ITEM_TYPES || spec.max_rounds < 1 || spec.max_rounds > MAX_ROUNDS ||
        quantities.size() != (size_t)spec.num_items || discount.size() != (size_t)spec.max_rounds)
        throw std::invalid_argument("the spec does not fit the engine's limits");
    spec.min_value = integer("min_value");
    spec.max_value = integer("max_value");
    spec.outside_low = integer("outside_low");
    spec.outside_high = integer("outside_high");
    spec.history = integer("history");
    spec.num_offers = integer("num_offers");
    spec.num_actions = integer("num_actions");
    spec.max_turns = integer("max_turns");
    spec.standing_dim = integer("standing_dim");
    spec.observation_dim = integer("observation_dim");
    std::copy(quantities.begin(), quantities.end(), spec.quantities);
    std::copy(discount.begin(), discount.end(), spec.discount);
    spec.discounted = integer("discounted");
    check_sizes(spec);
    return spec;
}

template <int... I>
std::unique_ptr<Batch> make_batch(const Spec& spec, i64 num_envs, const Arrays& arrays, int threads,
                                  std::integer_sequence<int, I...>) {
    std::unique_ptr<Batch> batch;
    (void)((spec.num_items == I + 1 && (batch = std::make_unique<BatchOf<I + 1>>(spec, num_envs, arrays, threads))) ||
           ...);
    return batch;
}

template <typename T>
T* sized(const Array<T>& array, i64 size, const char* name) {
    if ((i64)array.size() != size) throw std::invalid_argument(std::string(name) + " has the wrong size");
    if ((std::uintptr_t)array.data() % alignof(T)) throw std::invalid_argument(std::string(name) + " is not aligned");
    return array.data();
}

template <typename T>
T* member(nb::dict arrays, const char* name, i64 size) {
    return sized(nb::cast<Array<T>>(arrays[name], /* convert: a copy would be gone at once */ false), size, name);
}

// A batch together with the caller's arrays, which it keeps alive. Calls from several threads wait for each other.
class Core {
  public:
    Core(const Spec& spec, i64 num_envs, nb::dict arrays, int threads)
        : spec_(spec), num_envs_(num_envs), arrays_(arrays) {
        if (num_envs < 1 || num_envs > MAX_ROWS) throw std::invalid_argument("num_envs is out of range");
        const i64 b = num_envs, types = 2 * spec.num_items;
        const Arrays at{
            bind<i32>("state_values", b * types),
            bind<i32>("state_outside", b * 2),
            bind<i16>("state_actions", b * spec.max_turns),
            bind<i16>("state_offer", b),
            bind<i8>("state_turn", b),
            bind<bool>("state_finished", b),
            bind<i64>("state_game", b),
            bind<i64>("state_episode", b),
            wanted<float>(arrays, "observation", b * spec.observation_dim),
            bind<float>("reward", b * 2),
            wanted<bool>(arrays, "action_mask", b * spec.num_actions),
            bind<bool>("terminated", b),
            bind<bool>("illegal", b),
            bind<i8>("mover", b),
            bind<i8>("outcome", b),
            bind<i8>("decisions", b),
            bind<i16>("offer", b),
            bind<i16>("actions", b * spec.max_turns),
            bind<i32>("values", b * types),
            bind<i32>("outside", b * 2),
            bind<i64>("game", b),
            bind<i64>("episode", b),
        };
        batch_ = make_batch(spec, num_envs, at, threads, std::make_integer_sequence<int, MAX_ITEM_TYPES>());
    }

    void reset(u64 seed, std::optional<Array<const bool>> rows, bool dealt) {
        const bool* selected = rows ? sized(*rows, num_envs_, "reset_mask") : nullptr;
        alone([&] { batch_->reset(seed, selected, dealt); });
    }

    template <typename T>
    void step(Array<const T> actions, bool autoreset, std::optional<Array<const bool>> rows) {
        const T* action = sized(actions, num_envs_, "actions");
        const bool* selected = rows ? sized(*rows, num_envs_, "rows") : nullptr;
        alone([&] { batch_->step(action, selected, autoreset); });
    }

    void observe_all() {
        alone([&] { batch_->observe_all(); });
    }

    void random_actions(u64 stream, Array<i64> out) {
        i64* action = sized(out, num_envs_, "out");
        alone([&] { batch_->random_actions(stream, action); });
    }

    void mover_views(Array<float> observation, Array<bool> action_mask) {
        const Views views{sized(observation, num_envs_ * spec_.observation_dim, "observation"),
                          sized(action_mask, num_envs_ * spec_.num_actions, "action_mask"), nullptr};
        alone([&] { batch_->write_views(views, nullptr); });
    }

    void seat_views(Array<float> observation, Array<i8> action_mask) {
        float* view = sized(observation, 2 * num_envs_ * spec_.observation_dim, "observation");
        i8* mask = sized(action_mask, 2 * num_envs_ * (spec_.num_actions + 1), "action_mask");
        alone([&] { batch_->seat_views(view, mask); });
    }

    void random_rollout(u64 stream, nb::dict out, i64 steps, bool autoreset) {
        check_steps(steps, num_envs_);
        const i64 rows = steps * num_envs_;
        const Rollout rollout{steps,
                              wanted<float>(out, "observation", rows * spec_.observation_dim),
                              wanted<float>(out, "reward", rows * 2),
                              wanted<bool>(out, "action_mask", rows * spec_.num_actions),
                              wanted<bool>(out, "terminated", rows),
                              wanted<i8>(out, "mover", rows),
                              wanted<i64>(out, "action", rows)};
        alone([&] { batch_->random_rollout(stream, rollout, autoreset); });
    }

    const Spec& spec() const { return spec_; }
    i64 num_envs() const { return num_envs_; }
    Batch& batch() { return *batch_; }

    template <typename F>
    void alone(F&& call) {
        nb::gil_scoped_release release;
        std::lock_guard<std::mutex> lock(mutex_);
        if (!batch_) throw std::runtime_error("this engine is closed.");
        call();
    }

    // Gives the threads back; a recorder may keep the rest alive.
    void close() {
        alone([&] { batch_.reset(); });
    }

  private:
    template <typename T>
    T* bind(const char* name, i64 size) {
        return member<T>(arrays_, name, size);
    }

    template <typename T>
    static T* wanted(nb::dict arrays, const char* name, i64 size) {
        return arrays.contains(name) ? member<T>(arrays, name, size) : nullptr;
    }

    Spec spec_;
    i64 num_envs_;
    nb::dict arrays_;
    std::unique_ptr<Batch> batch_;
    std::mutex mutex_;
};

// Writes the movers' views into the caller's arrays, time first, and remembers which mask stands in which row.
class Recorder {
  public:
    Recorder(Core& core, nb::dict out, i64 steps)
        : core_(core), out_(out), steps_(steps) {
        check_steps(steps, core.num_envs());
        standing_.assign(steps * core.num_envs(), MASK_UNKNOWN);
        const i64 rows = steps * core.num_envs();
        views_ = Views{member<float>(out, "observation", rows * core.spec().observation_dim),
                       member<bool>(out, "action_mask", rows * core.spec().num_actions), member<i8>(out, "mover", rows)};
    }

    void record(i64 step) {
        if (step < 0 || step >= steps_) throw std::out_of_range("the rollout has " + std::to_string(steps_) + " steps, and no step " + std::to_string(step) + ".");
        const i64 row = step * core_.num_envs();
        const Views views{views_.observation + row * core_.spec().observation_dim,
                          views_.action_mask + row * core_.spec().num_actions, views_.mover + row};
        core_.alone([&] { core_.batch().write_views(views, standing_.data() + row); });
    }

  private:
    Core& core_;
    nb::dict out_;
    i64 steps_;
    Views views_;
    std::vector<i8> standing_;
};

}  // namespace

NB_MODULE(_cpu, m) {
    m.doc() = "CPU core: batched loops over rules.h.";
    nb::class_<Spec>(m, "Spec");
    m.def("make_spec", &make_spec, nb::arg("fields"));
    nb::class_<Core>(m, "Core")
        .def(nb::init<const Spec&, i64, nb::dict, int>(), nb::arg("spec"), nb::arg("num_envs"),
             nb::arg("arrays"), nb::arg("threads"))
        .def("reset", &Core::reset, nb::arg("seed"), nb::arg("rows").none(), nb::arg("dealt"))
        .def("step", &Core::step<i64>, nb::arg("actions").noconvert(), nb::arg("autoreset"),
             nb::arg("rows").none() = nb::none())
        .def("step", &Core::step<i32>, nb::arg("actions").noconvert(), nb::arg("autoreset"),
             nb::arg("rows").none() = nb::none())
        .def("close", &Core::close)
        .def("observe_all", &Core::observe_all)
        .def("random_actions", &Core::random_actions, nb::arg("stream"), nb::arg("out").noconvert())
        .def("mover_views", &Core::mover_views, nb::arg("observation").noconvert(), nb::arg("action_mask").noconvert())
        .def("seat_views", &Core::seat_views, nb::arg("observation").noconvert(), nb::arg("action_mask").noconvert())
        .def("random_rollout", &Core::random_rollout, nb::arg("stream"), nb::arg("out"), nb::arg("steps"),
             nb::arg("autoreset"));
    nb::class_<Recorder>(m, "Recorder")
        .def(nb::init<Core&, nb::dict, i64>(), nb::arg("core"), nb::arg("out"), nb::arg("steps"),
             nb::keep_alive<1, 2>())
        .def("record", &Recorder::record, nb::arg("step"));
    m.def("philox4x32", [](std::vector<u32> counter, std::vector<u32> key) {
        if (counter.size() != 4 || key.size() != 2) throw std::invalid_argument("philox4x32 takes 4 and 2 words");
        const Words words = philox4x32(Words{{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
        return std::vector<u32>(words.w, words.w + 4);
    });
}
