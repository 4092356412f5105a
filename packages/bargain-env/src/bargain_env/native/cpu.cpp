// Batched loops over rules.h with threads, and their Python binding.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "pool.h"
#include "rules.h"

namespace nb = nanobind;
using namespace bargain;

namespace {

template <typename T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

constexpr i8 MASK_UNWRITTEN = -1;

Spec make_spec(const std::vector<i32>& quantities, i32 max_rounds, i32 min_value, i32 max_value, i32 outside_low,
               i32 outside_high, bool history, const std::vector<float>& discount) {
    if (quantities.empty() || quantities.size() > MAX_ITEM_TYPES || max_rounds < 1 || max_rounds > MAX_ROUNDS ||
        discount.size() != (size_t)max_rounds)
        throw std::invalid_argument("the spec does not fit the engine's limits");
    Spec spec{};
    spec.num_items = (i32)quantities.size();
    spec.max_rounds = max_rounds;
    spec.min_value = min_value;
    spec.max_value = max_value;
    spec.outside_low = outside_low;
    spec.outside_high = outside_high;
    spec.history = history;
    spec.num_offers = 1;
    for (int item = 0; item < spec.num_items; ++item) {
        spec.quantities[item] = quantities[item];
        spec.num_offers *= quantities[item] + 1;
    }
    spec.num_actions = spec.num_offers + 2;
    spec.max_turns = 2 * max_rounds;
    spec.standing_dim = 2 * spec.num_items + 4 + spec.num_actions;
    spec.observation_dim = spec.standing_dim + (history ? (spec.max_turns - 1) * spec.num_items : 0);
    std::copy(discount.begin(), discount.end(), spec.discount);
    spec.discounted = std::any_of(discount.begin(), discount.end(), [](float d) { return d != 1.0f; });
    return spec;
}

// Rows of the batch, and the caller's arrays that they are read from and written to.
class Core {
  public:
    Core(const Spec& spec, i64 num_envs, nb::dict arrays, int threads)
        : spec_(spec), num_envs_(num_envs), pool_(threads), arrays_(arrays) {
        const i64 b = num_envs;
        values_ = bind<i32>("state_values", b * 2 * spec.num_items);
        outside_ = bind<i32>("state_outside", b * 2);
        moves_ = bind<i16>("state_actions", b * spec.max_turns);
        offer_ = bind<i16>("state_offer", b);
        turn_ = bind<i8>("state_turn", b);
        finished_ = bind<bool>("state_finished", b);
        game_ = bind<i64>("state_game", b);
        episode_ = bind<i64>("state_episode", b);
        observation_ = bind<float>("observation", b * spec.observation_dim);
        waiting_ = arrays.contains("waiting_observation")
                       ? bind<float>("waiting_observation", b * spec.observation_dim)
                       : nullptr;
        action_mask_ = bind<bool>("action_mask", b * spec.num_actions);
        mover_ = bind<i8>("mover", b);
        reward_ = bind<float>("reward", b * 2);
        terminated_ = bind<bool>("terminated", b);
        illegal_ = bind<bool>("illegal", b);
        outcome_ = bind<i8>("outcome", b);
        record_offer_ = bind<i16>("offer", b);
        decisions_ = bind<i8>("decisions", b);
        record_moves_ = bind<i16>("actions", b * spec.max_turns);
        record_values_ = bind<i32>("values", b * 2 * spec.num_items);
        record_outside_ = bind<i32>("outside", b * 2);
        record_game_ = bind<i64>("game", b);
        record_episode_ = bind<i64>("episode", b);
        written_mask_.assign(b, MASK_UNWRITTEN);
        for (i8 kind = MASK_OPENING; kind <= MASK_NONE; ++kind) {
            for (i64 action = 0; action < spec.num_actions; ++action) {
                mask_rows_[kind].push_back(is_legal(spec_, kind, action));
                mask_features_[kind].push_back(is_legal(spec_, kind, action) ? 1.0f : 0.0f);
            }
        }
    }

    // Starts the selected rows; `dealt` says that values and outside offers already stand in the state arrays.
    void reset(u64 seed, std::optional<Array<const bool>> rows, bool dealt) {
        seed_ = seed;
        const bool* selected = rows ? rows->data() : nullptr;
        if (rows && (i64)rows->size() != num_envs_) throw std::invalid_argument("reset_mask has the wrong size");
        run([=, this](i64 row) {
            if (selected && !selected[row]) return;
            if (!dealt) deal_row(row);
            clear_row(row);
            reward_[2 * row] = reward_[2 * row + 1] = 0.0f;
            terminated_[row] = illegal_[row] = false;
            observe(row, load(row));
        });
    }

    template <typename T>
    void step(Array<const T> actions, bool autoreset) {
        if ((i64)actions.size() != num_envs_) throw std::invalid_argument("actions have the wrong size");
        const T* action = actions.data();
        run([=, this](i64 row) { step_row(row, (i64)action[row], autoreset); });
    }

    // Writes what follows from the state arrays alone, after they were replaced.
    void observe_all() {
        run([this](i64 row) {
            reward_[2 * row] = reward_[2 * row + 1] = 0.0f;
            terminated_[row] = finished_[row];
            illegal_[row] = false;
            written_mask_[row] = MASK_UNWRITTEN;
            const Game game = load(row);
            if (game.finished) record(row, game);
            observe(row, game);
        });
    }

    void random_actions(u64 stream, Array<i64> out) {
        if ((i64)out.size() != num_envs_) throw std::invalid_argument("the output has the wrong size");
        i64* action = out.data();
        run([=, this](i64 row) {
            action[row] = random_action(spec_, load(row), seed_, stream, game_[row], episode_[row]);
        });
    }

  private:
    template <typename T>
    T* bind(const char* name, i64 size) {
        auto array = nb::cast<Array<T>>(arrays_[name]);
        if ((i64)array.size() != size) throw std::invalid_argument(std::string(name) + " has the wrong size");
        return array.data();
    }

    template <typename F>
    void run(F&& row_function) {
        nb::gil_scoped_release release;
        pool_.run(num_envs_, [&row_function](i64 first, i64 last) {
            const auto own = row_function;  // on this thread's stack, away from what the other threads write
            for (i64 row = first; row < last; ++row) own(row);
        });
    }

    Game load(i64 row) const {
        return Game{values_ + row * 2 * spec_.num_items, outside_ + row * 2, moves_ + row * spec_.max_turns,
                    offer_[row], turn_[row], finished_[row]};
    }

    void deal_row(i64 row) {
        deal(spec_, seed_, game_[row], episode_[row], values_ + row * 2 * spec_.num_items, outside_ + row * 2);
    }

    void clear_row(i64 row) {
        std::fill_n(moves_ + row * spec_.max_turns, spec_.max_turns, (i16)-1);
        offer_[row] = -1;
        turn_[row] = 0;
        finished_[row] = false;
    }

    void step_row(i64 row, i64 action, bool autoreset) {
        Game game = load(row);
        float* reward = reward_ + 2 * row;
        if (game.finished) {
            reward[0] = reward[1] = 0.0f;
            illegal_[row] = false;
            return;
        }
        const Move move = play(spec_, game, action);
        reward[0] = move.reward[0];
        reward[1] = move.reward[1];
        illegal_[row] = move.illegal;
        terminated_[row] = game.finished;
        offer_[row] = game.offer;
        turn_[row] = game.turn;
        finished_[row] = game.finished;
        if (game.finished) {
            record(row, game);
            if (autoreset) {
                ++episode_[row];
                deal_row(row);
                clear_row(row);
                game = load(row);
            }
        }
        observe(row, game);
    }

    void record(i64 row, const Game& game) {
        const i32 types = 2 * spec_.num_items, turns = spec_.max_turns;
        const i16 last = game.moves[game.turn - 1];
        outcome_[row] = last == spec_.num_offers ? DEAL : WALK;
        record_offer_[row] = outcome_[row] == DEAL ? game.offer : (i16)-1;
        decisions_[row] = game.turn;
        std::copy_n(game.moves, turns, record_moves_ + row * turns);
        std::copy_n(game.values, types, record_values_ + row * types);
        std::copy_n(game.outside, 2, record_outside_ + row * 2);
        record_game_[row] = game_[row];
        record_episode_[row] = episode_[row];
    }

    // Writes the row's views and mask. A mask pattern that already stands there is not written again.
    void observe(i64 row, const Game& game) {
        const i32 dim = spec_.observation_dim, actions = spec_.num_actions;
        float* view = observation_ + row * dim;
        float* waiting = waiting_ ? waiting_ + row * dim : nullptr;
        const i32 seat = mover(game);
        const i8 kind = mask_kind(spec_, game);
        mover_[row] = (i8)seat;
        if (game.finished) {
            std::fill_n(view, dim, 0.0f);
            if (waiting) std::fill_n(waiting, dim, 0.0f);
        } else {
            write_view(spec_, game, seat, view);
            if (waiting) write_view(spec_, game, 1 - seat, waiting);
        }
        if (kind == written_mask_[row]) return;
        float* features = view + 2 * spec_.num_items + 4;
        std::memcpy(features, mask_features_[kind].data(), actions * sizeof(float));
        std::memcpy(action_mask_ + row * actions, mask_rows_[kind].data(), actions);
        if (waiting) std::fill_n(waiting + 2 * spec_.num_items + 4, actions, 0.0f);
        written_mask_[row] = kind;
    }

    Spec spec_;
    i64 num_envs_;
    u64 seed_ = 0;
    Pool pool_;
    nb::dict arrays_;
    i32 *values_, *outside_, *record_values_, *record_outside_;
    i16 *moves_, *offer_, *record_offer_, *record_moves_;
    i8 *turn_, *mover_, *outcome_, *decisions_;
    bool *finished_, *action_mask_, *terminated_, *illegal_;
    i64 *game_, *episode_, *record_game_, *record_episode_;
    float *observation_, *waiting_, *reward_;
    std::vector<i8> written_mask_;
    std::vector<char> mask_rows_[4];
    std::vector<float> mask_features_[4];
};

}  // namespace

NB_MODULE(_cpu, m) {
    m.doc() = "CPU core: batched loops over rules.h.";
    nb::class_<Spec>(m, "Spec");
    m.def("make_spec", &make_spec, nb::arg("quantities"), nb::arg("max_rounds"), nb::arg("min_value"),
          nb::arg("max_value"), nb::arg("outside_low"), nb::arg("outside_high"), nb::arg("history"),
          nb::arg("discount"));
    nb::class_<Core>(m, "Core")
        .def(nb::init<const Spec&, i64, nb::dict, int>(), nb::arg("spec"), nb::arg("num_envs"),
             nb::arg("arrays"), nb::arg("threads"))
        .def("reset", &Core::reset, nb::arg("seed"), nb::arg("rows").none(), nb::arg("dealt"))
        .def("step", &Core::step<i64>, nb::arg("actions").noconvert(), nb::arg("autoreset"))
        .def("step", &Core::step<i32>, nb::arg("actions").noconvert(), nb::arg("autoreset"))
        .def("observe_all", &Core::observe_all)
        .def("random_actions", &Core::random_actions, nb::arg("stream"), nb::arg("out").noconvert());
    m.def("philox4x32", [](std::vector<u32> counter, std::vector<u32> key) {
        if (counter.size() != 4 || key.size() != 2) throw std::invalid_argument("philox4x32 takes 4 and 2 words");
        const Words words = philox4x32(Words{{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
        return std::vector<u32>(words.w, words.w + 4);
    });
}
