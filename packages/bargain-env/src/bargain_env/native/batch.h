// Batched loops over rules.h: the rows of one engine, over arrays that the caller owns.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "pool.h"
#include "rules.h"

namespace bargain {

// The spec with its number of item types known to the compiler.
template <int I>
struct SpecOf : Spec {
    static constexpr i32 num_items = I;
};

// What an engine holds and shows; the sizes stand in layout.py.
struct Arrays {
    i32 *state_values, *state_outside;
    i16 *state_actions, *state_offer;
    i8* state_turn;
    bool* state_finished;
    i64 *state_game, *state_episode;
    float *observation, *reward;
    bool *action_mask, *terminated, *illegal;
    i8 *mover, *outcome, *decisions;
    i16 *offer, *actions;
    i32 *values, *outside;
    i64 *game, *episode;
};

// Where a rollout is written, time first; null for what is not wanted.
struct Rollout {
    i64 steps;
    float *observation, *reward;
    bool *action_mask, *terminated;
    i8* mover;
    i64* action;
};

// Where the movers' views are written; null for what is not wanted.
struct Views {
    float* observation;
    bool* action_mask;
    i8* mover;
};

// No mask pattern: what stands in a row is not known.
constexpr i8 MASK_UNKNOWN = -1;

// Rows whose state and views fit a core's second-level cache.
constexpr i64 BLOCK = 256;

// Everything but the number of item types, for callers that know it only at run time.
class Batch {
  public:
    virtual ~Batch() = default;
    virtual void reset(u64 seed, const bool* selected, bool dealt) = 0;
    virtual void step(const i32* actions, const bool* rows, bool autoreset) = 0;
    virtual void step(const i64* actions, const bool* rows, bool autoreset) = 0;
    virtual void observe_all() = 0;
    virtual void random_actions(u64 stream, i64* out) = 0;
    virtual void seat_views(float* observation, i8* action_mask) = 0;
    virtual void write_views(const Views& out, i8* standing) = 0;
    virtual void random_rollout(u64 stream, const Rollout& out, bool autoreset) = 0;
};

template <int I>
class BatchOf final : public Batch {
  public:
    BatchOf(const Spec& spec, i64 num_envs, const Arrays& arrays, int threads)
        : spec_{spec}, num_envs_(num_envs), at_(arrays), pool_(new Pool(threads)), own_(num_envs * 2 * OWN) {
        std::fill_n(at_.state_finished, num_envs, true);  // as the views say, which are still zero
        fractions_.resize(2 * (spec.num_offers + 1) * I);
        states_.resize(spec.max_turns * 2 * STATE);
        for (i32 seat = 0; seat < 2; ++seat) {
            for (i32 offer = -1; offer < spec.num_offers; ++offer)
                write_fractions(spec_, offer, seat, fractions_.data() + fraction_row(offer, seat));
            for (i32 turn = 0; turn < spec.max_turns; ++turn)
                write_state(spec_, turn, seat, states_.data() + state_row(turn, seat));
        }
        for (i8 kind = MASK_OPENING; kind <= MASK_NONE; ++kind) {
            for (i64 action = 0; action < spec.num_actions; ++action) {
                mask_rows_[kind].push_back(is_legal(spec_, kind, action));
                mask_features_[kind].push_back(is_legal(spec_, kind, action) ? 1.0f : 0.0f);
            }
        }
    }

    // Starts the selected rows; `dealt` says that values and outside offers already stand in the state arrays.
    void reset(u64 seed, const bool* selected, bool dealt) override {
        seed_ = seed;
        run([=, this](i64 row) {
            if (selected && !selected[row]) return;
            const i8 before = mask_kind(spec_, load(row));
            start(row, dealt);
            at_.reward[2 * row] = at_.reward[2 * row + 1] = 0.0f;
            at_.terminated[row] = at_.illegal[row] = false;
            show(own_views(), row, load(row), before);
        });
    }

    // Plays in the selected rows (all, where `rows` is null).
    void step(const i32* actions, const bool* rows, bool autoreset) override { step_rows(actions, rows, autoreset); }
    void step(const i64* actions, const bool* rows, bool autoreset) override { step_rows(actions, rows, autoreset); }

    // Writes what follows from the state arrays alone, after they were replaced.
    void observe_all() override {
        run([this](i64 row) {
            at_.reward[2 * row] = at_.reward[2 * row + 1] = 0.0f;
            at_.terminated[row] = at_.state_finished[row];
            at_.illegal[row] = false;
            write_own_views(row);
            const Game game = load(row);
            if (game.finished) record(row, game);
            show(own_views(), row, game, MASK_UNKNOWN);
        });
    }

    void random_actions(u64 stream, i64* out) override {
        run([=, this](i64 row) { out[row] = draw(row, stream); });
    }

    void seat_views(float* observation, i8* action_mask) override {
        const i64 features = spec_.observation_dim, actions = spec_.num_actions + 1;
        run([=, this](i64 row) {
            const Game game = load(row);
            const i8 kind = mask_kind(spec_, game);
            for (i32 seat = 0; seat < 2; ++seat) {
                float* view = observation + (seat * num_envs_ + row) * features;
                i8* mask = action_mask + (seat * num_envs_ + row) * actions;
                const bool moves = seat == mover(game);
                write_features(row, game, seat, view);
                const auto& legal = mask_features_[moves ? kind : MASK_NONE];
                std::memcpy(view + mask_offset(spec_), legal.data(), spec_.num_actions * sizeof(float));
                std::memcpy(mask, mask_rows_[moves ? kind : MASK_NONE].data(), spec_.num_actions);
                mask[actions - 1] = !moves;
                if (game.finished && moves) mask[actions - 2] = 1;
            }
        });
    }

    // Writes what the movers see. `standing` holds the mask pattern that stands in each row of `out` and is kept up; null
    // where nothing is known.
    void write_views(const Views& out, i8* standing) override {
        run_ranges([=, this](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) {
                const i8 kind = show(out, row, load(row), standing ? standing[row] : MASK_UNKNOWN);
                if (standing) standing[row] = kind;
            }
        });
    }

    void random_rollout(u64 stream, const Rollout& out, bool autoreset) override {
        run_ranges([=, this](i64 first, i64 last) {
            for (i64 start = first; start < last; start += BLOCK) {
                const i64 end = std::min(start + BLOCK, last);
                for (i64 t = 0; t < out.steps; ++t) rollout_step(stream, out, t, start, end, autoreset);
            }
        });
    }

  private:
    static constexpr i32 OWN = I + 1, STATE = 3;

    template <typename F>
    void run_ranges(F&& body) {
        pool_->run(num_envs_, [&body](i64 first, i64 last) {
            const auto own = body;  // on this thread's stack, away from what the other threads write
            own(first, last);
        });
    }

    template <typename F>
    void run(F&& row_function) {
        run_ranges([row_function](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) row_function(row);
        });
    }

    i64 fraction_row(i32 offer, i32 seat) const { return (seat * (i64)(spec_.num_offers + 1) + offer + 1) * I; }
    static i64 state_row(i32 turn, i32 seat) { return (turn * 2 + seat) * STATE; }

    BARGAIN_FN Game load(i64 row) const {
        return Game{at_.state_values + row * 2 * I, at_.state_outside + row * 2, at_.state_actions + row * spec_.max_turns,
                    at_.state_offer[row], at_.state_turn[row], at_.state_finished[row]};
    }

    i64 draw(i64 row, u64 stream) const {
        return random_action(spec_, load(row), seed_, stream, at_.state_game[row], at_.state_episode[row]);
    }

    void start(i64 row, bool dealt) {
        if (!dealt) {
            deal(spec_, seed_, at_.state_game[row], at_.state_episode[row], at_.state_values + row * 2 * I,
                 at_.state_outside + row * 2);
        }
        std::fill_n(at_.state_actions + row * spec_.max_turns, spec_.max_turns, (i16)-1);
        at_.state_offer[row] = -1;
        at_.state_turn[row] = 0;
        at_.state_finished[row] = false;
        write_own_views(row);
    }

    void write_own_views(i64 row) {
        for (i32 seat = 0; seat < 2; ++seat) {
            const i32* values = at_.state_values + (row * 2 + seat) * I;
            write_own(spec_, values, at_.state_outside[row * 2 + seat], own_.data() + (row * 2 + seat) * OWN);
        }
    }

    template <typename T>
    void step_rows(const T* actions, const bool* rows, bool autoreset) {
        run_ranges([=, this](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) {
                if (rows && !rows[row]) {
                    stand_still(row);
                } else {
                    step_row(row, (i64)actions[row], autoreset);
                }
            }
        });
    }

    BARGAIN_FN void stand_still(i64 row) {
        at_.reward[2 * row] = at_.reward[2 * row + 1] = 0.0f;
        at_.illegal[row] = false;
    }

    BARGAIN_FN void step_row(i64 row, i64 action, bool autoreset) {
        Game game = load(row);
        if (game.finished) return stand_still(row);
        const i8 before = mask_kind(spec_, game);
        const Move move = play(spec_, game, action);
        at_.reward[2 * row] = move.reward[0];
        at_.reward[2 * row + 1] = move.reward[1];
        at_.illegal[row] = move.illegal;
        at_.terminated[row] = game.finished;
        at_.state_offer[row] = game.offer;
        at_.state_turn[row] = game.turn;
        at_.state_finished[row] = game.finished;
        if (game.finished) {
            record(row, game);
            if (autoreset) {
                ++at_.state_episode[row];
                start(row, false);
                game = load(row);
            }
        }
        show(own_views(), row, game, before);
    }

    void rollout_step(u64 stream, const Rollout& out, i64 t, i64 first, i64 last, bool autoreset) {
        const i64 start = t * num_envs_, at = start + first, rows = last - first;
        const Views views{out.observation ? out.observation + start * spec_.observation_dim : nullptr,
                          out.action_mask ? out.action_mask + start * spec_.num_actions : nullptr,
                          out.mover ? out.mover + start : nullptr};
        i64 chosen[BLOCK];
        for (i64 row = first; row < last; ++row) {
            show(views, row, load(row), MASK_UNKNOWN);
            chosen[row - first] = draw(row, stream);
        }
        for (i64 row = first; row < last; ++row) step_row(row, chosen[row - first], autoreset);
        if (out.action) std::memcpy(out.action + at, chosen, rows * sizeof(i64));
        if (out.reward) std::memcpy(out.reward + 2 * at, at_.reward + 2 * first, 2 * rows * sizeof(float));
        if (out.terminated) std::memcpy(out.terminated + at, at_.terminated + first, rows);
    }

    void record(i64 row, const Game& game) {
        const i32 turns = spec_.max_turns;
        const i16 last = game.moves[game.turn - 1];
        at_.outcome[row] = last == spec_.num_offers ? DEAL : WALK;
        at_.offer[row] = at_.outcome[row] == DEAL ? game.offer : (i16)-1;
        at_.decisions[row] = game.turn;
        std::copy_n(game.moves, turns, at_.actions + row * turns);
        std::copy_n(game.values, 2 * I, at_.values + row * 2 * I);
        std::copy_n(game.outside, 2, at_.outside + row * 2);
        at_.game[row] = at_.state_game[row];
        at_.episode[row] = at_.state_episode[row];
    }

    Views own_views() const { return {at_.observation, at_.action_mask, at_.mover}; }

    // Writes the mover, its view and mask where `to` has room for them, and returns the mask's pattern. `before` is the
    // pattern that stands there, of which only what differs is written.
    BARGAIN_FN i8 show(const Views& to, i64 row, const Game& game, i8 before) {
        float* view = to.observation ? to.observation + row * spec_.observation_dim : nullptr;
        bool* mask = to.action_mask ? to.action_mask + row * spec_.num_actions : nullptr;
        const i32 seat = mover(game);
        const i8 kind = mask_kind(spec_, game);
        if (to.mover) to.mover[row] = (i8)seat;
        if (view) write_features(row, game, seat, view);
        if (kind == before) return kind;
        float* features = view ? view + mask_offset(spec_) : nullptr;
        if ((before == MASK_OPENING && kind == MASK_FULL) || (before == MASK_FULL && kind == MASK_OPENING)) {
            if (view) features[spec_.num_offers] = kind == MASK_FULL ? 1.0f : 0.0f;
            if (mask) mask[spec_.num_offers] = kind == MASK_FULL;
            return kind;
        }
        if (view) std::memcpy(features, mask_features_[kind].data(), spec_.num_actions * sizeof(float));
        if (mask) std::memcpy(mask, mask_rows_[kind].data(), spec_.num_actions);
        return kind;
    }

    // Writes all of the view of `seat` but the mask slice: zeros where the game is finished.
    BARGAIN_FN void write_features(i64 row, const Game& game, i32 seat, float* view) {
        const i32 history = spec_.observation_dim - spec_.standing_dim;
        if (game.finished) {
            std::fill_n(view, mask_offset(spec_), 0.0f);
            std::fill_n(view + spec_.standing_dim, history, 0.0f);
            return;
        }
        std::memcpy(view, own_.data() + (row * 2 + seat) * OWN, OWN * sizeof(float));
        copy_fractions(game.offer, seat, view + OWN);
        std::memcpy(view + state_offset(spec_), states_.data() + state_row(game.turn, seat), STATE * sizeof(float));
        if (history == 0) return;
        float* slot = view + spec_.standing_dim;
        for (i32 k = 0; k < spec_.max_turns - 1; ++k, slot += I)
            copy_fractions(k < game.turn ? game.moves[k] : -1, seat, slot);
    }

    BARGAIN_FN void copy_fractions(i32 offer, i32 seat, float* out) const {
        std::memcpy(out, fractions_.data() + fraction_row(offer, seat), I * sizeof(float));
    }

    const SpecOf<I> spec_;
    const i64 num_envs_;
    const Arrays at_;
    u64 seed_ = 0;
    const std::unique_ptr<Pool, Pool::Delete> pool_;
    std::vector<float> own_;        // [B][2][I + 1], the parts of both views that a deal settles
    std::vector<float> fractions_;  // [2][1 + offers][I], by seat; the first row means no offer
    std::vector<float> states_;     // [max_turns][2][3], by turn and seat
    std::vector<char> mask_rows_[4];
    std::vector<float> mask_features_[4];
};

}  // namespace bargain
